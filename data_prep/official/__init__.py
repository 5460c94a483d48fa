"""What VIGOR's authors released, made usable here: ``python -m data_prep.official --help``.

weights      ``vgg16.npy``, the ImageNet weights every original model starts from
descriptors  ``*_global_descriptor.npy`` and ``delta_*.npy`` -> the paper's tables and curves
checkpoint   TensorFlow 1 checkpoints -> our networks (needs the extra ``tensorflow``)
"""
