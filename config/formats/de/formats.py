"""German numbers keep the decimal point: pages set them into SVG and CSS, and beside figures that are never localized.

Amounts of money have their comma all the same (annotation.domain.crowd_money).
"""

DECIMAL_SEPARATOR = "."
THOUSAND_SEPARATOR = "\N{NARROW NO-BREAK SPACE}"
