"""Choices that rooms on several floors share by name: one computes them, others read them from files and parameters."""

RTC_SCHEDULES = ("exp", "linear", "ones", "zeros")  # how weights of real-time chunking fall: `model.rtc`
IMAGE_RESIZES = ("pillow", "torch", "torch_0.4", "torch_0.3")  # how frames become pictures: `engine.pictures`
IMAGE_CODINGS = ("raw", "jpeg", "whole")  # how pictures travel to a server: `inference.client`
