"""Videos, read and written by FFmpeg through PyAV."""
