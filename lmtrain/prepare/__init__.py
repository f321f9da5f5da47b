"""From what people have to a corpus folder; `lmtrain.prepare.folder` tells how."""
