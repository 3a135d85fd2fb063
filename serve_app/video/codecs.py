"""What a source may be in: the demuxers and decoders of FFmpeg that are used. All others are refused.

FFmpeg has hundreds more, most of them for formats that nobody sends, and less looked after. docs/6-video.md says what
of this was tried.
"""

from __future__ import annotations

# Only demuxers that read a single file: playlists (HLS, DASH, concat, SDP) could refer to other files and addresses.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,mxf,gif,nut,ivf,"
    "h264,hevc,m4v,mjpeg,yuv4mpegpipe,dv,apng,av1,obu,mp3,aac,wav,flac"
)

_VIDEO = (
    "h264 hevc libdav1d av1 vp9 libvpx-vp9 vp8 libvpx mpeg4 msmpeg4 msmpeg4v2 msmpeg4v1 mpeg2video mpeg1video mjpeg "
    "ffv1 png apng jpeg2000 h263 h263p flv wmv1 wmv2 wmv3 vc1 theora prores dnxhd cfhd magicyuv qtrle cinepak gif "
    "dvvideo rawvideo v210 v410 snow huffyuv ffvhuff utvideo zmbv"
)
_AUDIO = (
    "aac aac_latm mp3 mp3float mp2 mp2float mp1 mp1float ac3 eac3 dca truehd opus libopus vorbis flac alac "
    "wmav1 wmav2 wmapro amrnb amrwb adpcm_ms adpcm_ima_wav adpcm_ima_qt adpcm_swf nellymoser speex "
    "pcm_u8 pcm_s8 pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le pcm_f64be "
    "pcm_alaw pcm_mulaw pcm_bluray pcm_dvd pcm_s16le_planar pcm_s24le_planar pcm_s32le_planar"
)

VIDEO_DECODERS = frozenset(_VIDEO.split())
AUDIO_DECODERS = frozenset(_AUDIO.split())
DECODERS = VIDEO_DECODERS | AUDIO_DECODERS
