"""Decoding in processes of their own, for more streams than one Python process can decode.

Each decoded frame holds Python's lock for a while, in PyNvVideoCodec as well, so that the threads of one process end at
half of what a data-centre GPU decodes. A process here reads its share of the sources (`child`) and writes the pictures
to memory of the GPU that belongs to this process (`slots`); only what is known of them comes by message (`messages`).
`spread` says which sources are read that way, and `Line.frames` gives their frames as the sources themselves would.
"""
