"""How good the boxes are: against labels (`coco`) and against another model (`matching`)."""
