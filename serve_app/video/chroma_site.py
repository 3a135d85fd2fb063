"""Reads the chroma sample location of a source from FFmpeg, as PyAV does not expose it.

Calls FFmpeg's functions with ctypes, in the library that PyAV has loaded. Only the first fields of AVFormatContext and
AVStream are read by offset (unchanged since FFmpeg 5); everything else uses functions and named options.
"""

from __future__ import annotations

from ctypes import CDLL, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_uint, c_void_p
from functools import cache
from pathlib import Path

import av.container.input
from av.error import err_check

from serve_app.video.source import OPENING

_OPTION = b"chroma_sample_location"


class _Stream(Structure):
    _fields_ = (("av_class", c_void_p), ("index", c_int), ("id", c_int), ("codecpar", c_void_p))


class _FormatContext(Structure):
    _fields_ = (
        ("before", c_void_p * 5),  # av_class, iformat, oformat, priv_data, pb
        ("ctx_flags", c_int),
        ("nb_streams", c_uint),
        ("streams", POINTER(POINTER(_Stream))),
    )


def chroma_site_code(path: Path, stream: int) -> int:
    """FFmpeg's AVChromaLocation of a stream, from the bitstream or the container; 0 if unspecified."""
    lib = _library()
    context, options, site = POINTER(_FormatContext)(), c_void_p(), c_int64()
    for name, value in OPENING.items():
        err_check(lib.av_dict_set(byref(options), name.encode(), value.encode(), 0))
    try:
        err_check(lib.avformat_open_input(byref(context), str(path).encode(), None, byref(options)))
        lib.avformat_find_stream_info(context, None)
        codec = c_void_p(lib.avcodec_alloc_context3(None))
        try:
            parameters = context.contents.streams[stream].contents.codecpar
            err_check(lib.avcodec_parameters_to_context(codec, parameters))
            err_check(lib.av_opt_get_int(codec, _OPTION, 0, byref(site)))
        finally:
            lib.avcodec_free_context(byref(codec))
    finally:
        lib.avformat_close_input(byref(context))
        lib.av_dict_free(byref(options))
    return site.value


@cache
def _library() -> CDLL:
    """PyAV's extension module for reading files, whose dependencies are FFmpeg's libraries."""
    lib = CDLL(av.container.input.__file__)
    context = POINTER(POINTER(_FormatContext))
    lib.av_dict_set.argtypes = [POINTER(c_void_p), c_char_p, c_char_p, c_int]
    lib.av_dict_free.argtypes = [POINTER(c_void_p)]
    lib.avformat_open_input.argtypes = [context, c_char_p, c_void_p, POINTER(c_void_p)]
    lib.avformat_find_stream_info.argtypes = [POINTER(_FormatContext), c_void_p]
    lib.avformat_close_input.argtypes = [context]
    lib.avcodec_alloc_context3.argtypes, lib.avcodec_alloc_context3.restype = [c_void_p], c_void_p
    lib.avcodec_parameters_to_context.argtypes = [c_void_p, c_void_p]
    lib.avcodec_free_context.argtypes = [POINTER(c_void_p)]
    lib.av_opt_get_int.argtypes = [c_void_p, c_char_p, c_int, POINTER(c_int64)]
    return lib
