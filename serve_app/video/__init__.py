"""Video input and output with PyAV, without Ray, HTTP or neural networks.

    probe ──▶ Index      decode ──▶ Frames      encode ──▶ a piece      join ──▶ the file, with the source's audio

`source` opens files, `planes` and `colour_tags` convert pixels and colour tags, `clock` generates timestamps that a
container lacks, `formats` is the table of output formats, `audio` copies or encodes the audio, `mask` renders the
matte. GIF has its own pieces (`gif.piece`), which include a colour histogram: the join derives one palette from all
histograms (`gif.palette`), maps the pixels to it (`gif.paint`) and writes the file (`gif.join`, `gif.writer`).
"""
