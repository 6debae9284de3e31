"""Parts of `bench/gpu_day.py`."""
