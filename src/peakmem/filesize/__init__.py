"""How large a model file will be, told from the graph: one module for each format's writer, none of which writes.

    predict.file_size("resnet50", "safetensors").nbytes

`folding` and `content` say which tensors are written and at which dtype; a writer's module counts the bytes of its
layout around them. No weight is read and no library of a format is imported.
"""
