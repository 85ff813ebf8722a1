"""Synthetic people with exact joints, for tests, demonstrations and training without any licence.

body, kinematics, poses    shapes of people, and their surface and joints in any pose
collision, staging, legs   what touches; bodies on floors and seats; feet where they should be
grip, avoidance            hands where they should be; small changes that keep limbs clear
keyposes, takes            smooth motion through random poses; what an action is given
actions, gait, sports      what people do on their feet
postures, floor            on the floor
acrobatics                 in the air, on the hands, on walls and bars
motion                     clips by activity
motion_files, retarget     motion from files, and how a body of our own does it
recorded                   clips of such motion
landmarks, garments        where clothes are on a body; how they hang
outfits, person            what is worn; a dressed person as one surface
props, furniture           things of simple shapes, worn or standing about
pictures, materials        crowds, banners, backdrops; colours and patterns
shade                      lit surfaces
numerics, render, layers   compiled loops; triangles to samples
cameras, scene, backdrop   cameras; surroundings and their light; what a fixed camera sees of them
surfaces, compose, film    what is drawn; a person in their surroundings; from light to files
cast, sequence             who is in a sequence; one sequence on disk
truth, generate, sheet     labels; data sets; what they look like
"""

from margipose.synthetic.generate import make_synthetic
from margipose.synthetic.sheet import SHEET_SUFFIXES, write_sheet

__all__ = ["SHEET_SUFFIXES", "make_synthetic", "write_sheet"]
