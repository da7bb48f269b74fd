"""From weights to a bundle. Start reading at `yolotrt.export.pipeline`; the public name is `yolotrt.export_model`."""
