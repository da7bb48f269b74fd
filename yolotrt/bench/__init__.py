"""How fast a model runs here: the logic of `yolotrt bench` and `yolotrt profile`.

Reading order: `options`, `timing` (rounds), `stages` (what is timed), `start` (fresh processes), `machine`,
`roofline`, `bench` (how it is put together), `report` and `view`. `versus` races other libraries, `loadgen` runs
MLPerf's scenarios, `profile/` gives the time of each layer.
"""
