"""Pictures of poses: overlays on images, heatmaps, 3D plots and training curves.

Arrays in, uint8 RGB arrays or Matplotlib figures out. Matplotlib (the extra `viz`) is imported by the
figures alone, without its global state, so any thread may draw and no display is needed.

Limbs are drawn by joint name in `COLOURS`: orange is the person's own left, blue the person's own right,
grey the middle; a bone is on the side of its outer joint. The three stay distinct for people who are
colour-blind. Joints that are not finite, or not valid, are left out together with their bones.

Arguments whose shapes or values are not as described raise a ValueError that names them.
"""

from margipose.draw.cube_pages import write_cubes
from margipose.draw.cubes import cube
from margipose.draw.errors import joint_figure
from margipose.draw.examples import Example, example_sheet
from margipose.draw.figures import (
    check_matplotlib,
    curve_figure,
    figure_to_png,
    heatmap_figure,
    pose_figure,
    save_figure,
)
from margipose.draw.learning import learning_figure
from margipose.draw.overlays import draw_people, draw_skeleton, encode_jpeg, encode_png, write_png
from margipose.draw.scenes import pose_scene
from margipose.draw.style import COLOURS, side_of

__all__ = [
    "COLOURS",
    "Example",
    "check_matplotlib",
    "cube",
    "curve_figure",
    "draw_people",
    "draw_skeleton",
    "encode_jpeg",
    "encode_png",
    "example_sheet",
    "figure_to_png",
    "heatmap_figure",
    "joint_figure",
    "learning_figure",
    "pose_figure",
    "pose_scene",
    "save_figure",
    "side_of",
    "write_cubes",
    "write_png",
]
