"""What an annotator sees of one item, frozen: pictures, maps and boxes in panels, in one sprite and one zoom.

In the order of reading: `plan` (a line that asks for an item), `feature_images` (what the exemplars hold of a feature),
`split` (which of its images may be references, queries or for verification), a module per builder (`sheets`,
`two_alternative`, `intruder`, `verification`, `pairs`, `patch_marking`: which cells an item has, and its truth),
`geometry` and `rendering` (cells to pixels), `building` (all of it, line by line). Plain Pillow and numpy; nothing
draws at random but from the seed of the line.

Blind means indistinguishable (design.md §8): the maps of a control keep no more patches than those that the feature it
is matched to shows at the same place, it has as many cells, and the strengths shown are the matched feature's.
"""
