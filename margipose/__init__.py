"""3D human pose from one RGB image by 2D marginal heatmaps and soft-argmax.

The way of the data, and the module that does each step:

    files -> `data` (records, samples, batches) -> `model` (heatmaps) -> `dsnt` (coordinates)
    -> `augment`, `camera` (millimetres) -> `metrics` -> `evaluate` (tables)
"""

__version__ = "1.0.0.dev0"
