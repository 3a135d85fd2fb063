"""Video in and out by PyAV: no Ray, no HTTP, no network.

    probe ──▶ Index      decode ──▶ Frames      encode ──▶ a piece      join ──▶ the file, with the source's audio

`source` opens files, `planes` and `colour` translate pixels and tags, `clock` makes up times that a container
lacks, `formats` is the table of outputs, `audio` copies or encodes the sound. `mask` draws the matte. A GIF's
pieces have a form of their own (`gif_piece`): their colours are counted, and the join makes one palette of them
(`palette`), paints (`paint`) and writes (`gif_join`, `gif`).
"""
