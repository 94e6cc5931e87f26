"""Emitters: functions that add a kernel's steps to a program and return the register it fills, one file a kernel."""
