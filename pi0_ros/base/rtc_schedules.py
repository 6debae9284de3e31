"""How the weights of real-time chunking may fall, by name: `model.rtc` computes them, robots and files name them."""

RTC_SCHEDULES = ("exp", "linear", "ones", "zeros")
