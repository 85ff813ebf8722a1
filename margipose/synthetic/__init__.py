"""Synthetic people with exact joints, for tests, demonstrations and first trainings.

body      sizes, and joint angles to joint positions
motion    clips of joint angles, by activity
figure    a person as tapered capsules with skin, hair and clothes
render    rays against capsules and boxes
scene     surroundings, light and cameras
compose   the lit person before their surroundings
generate  data sets on disk
"""

from margipose.synthetic.generate import make_synthetic

__all__ = ["make_synthetic"]
