"""Exemplars: the images that show what a feature is, gathered in one pass over an image set.

Reading order: image_maxima (what one batch says of each image and latent), ranked_table (keep the best few per row),
accumulator (the pass itself), activation_ranges (samples over the range, in one pass), logit_lens.
"""
