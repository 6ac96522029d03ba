"""Reports: one module per family of protocols turns the answers of a study into sections of figures.

`frame` has what they share: sections, the answers in scope, figures by block, condition, dictionary and variant.
"""
