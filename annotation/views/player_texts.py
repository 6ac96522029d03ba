"""Every word that the player's script says, in the reader's language; the script has none of its own."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import pgettext


def player_texts() -> dict[str, str]:
    return status_texts() | looking_texts() | answer_texts() | remark_texts() | own_texts()


def status_texts() -> dict[str, str]:
    return {
        "progress": _("%(done)s of %(of)s"),
        "all_saved": _("All saved"),
        "saving": _("Saving %(n)s…"),
        "offline_kept": _("No connection. Kept on this computer: %(n)s"),
        "server_kept": _("Not saved yet, but kept on this computer: %(n)s. %(reason)s"),
        "signedout_kept": _("Signed out. Kept on this computer: %(n)s"),
        "refused_kept": _("Not taken, but kept on this computer: %(n)s. %(reason)s"),
        "late_extra": _("This one had been given on meanwhile; yours is kept as an extra."),
        "no_storage": _(
            "This browser does not let the page keep your answers safe. "
            "Open it in an ordinary window, not a private one."
        ),
        "unreachable": _("The server cannot be reached."),
        "foreign_answer": _("Something else than Vitrine answered (%(status)s)."),
        "bad_answer": _("The server answered %(status)s."),
        "no_pictures": _("The pictures cannot be loaded."),
        "signed_out": _("You are signed out. Sign in again and reload this page."),
    }


def looking_texts() -> dict[str, str]:
    return {
        "image_n": _("Image %(number)s of %(n)s"),
        "patch_n": _("Patch %(number)s of %(n)s"),
        "strength": _("strength %(percent)s percent"),
        "chosen": _("chosen"),
        "enlarge": _("Enlarge"),
        "patch_at": _("row %(row)s, column %(column)s"),
        "marked": _("marked"),
        "point_first": _("Point at a picture first, or move to it with the arrows."),
        "focus_first": _("Move to a patch with the arrows first."),
        "look_first": _("Look a little longer first."),
    }


def answer_texts() -> dict[str, str]:
    return {
        "missing": _("Still open: %(question)s"),
        "earlier_hint": _("An earlier answer: change it, Enter keeps it."),
        "earliest": _("This is the earliest answer you can change."),
        "no_earlier": _("There is no earlier answer here."),
        "no_earlier_now": _("Earlier answers cannot be loaded now."),
        "changed": _("Changed."),
        "feedback_right": _("That is what we see too"),
        "feedback_wrong": _("We see it differently"),
        "right": _("right"),
        "expected": _("expected %(answers)s"),
        "or": _("or"),
        "nothing": _("nothing"),
        "none_of_them": _("none of them"),
        "n_marked": _("marked patches: %(n)s"),
        "answer_n": _("Answer %(name)s"),
        "term_create": _("New: “%(term)s”"),
        "term_near": _("Much like one there is. Tab takes it, Enter keeps yours."),
        "term_only_listed": _("Only labels of the list are taken; try another word."),
    }


def remark_texts() -> dict[str, str]:
    return {
        "skip_title": _("Skip this one"),
        "skip_lead": _("It goes back to the others. Why?"),
        "skip_send": _("Skip"),
        "skip_unseen": _("The pictures do not show"),
        "skip_disturbing": _("Disturbing or private"),
        "skip_seen": _("I have seen it before"),
        "comment_title": _("Comment"),
        "comment_lead": _("The researchers read it beside your answer."),
        "comment_send": _("Keep"),
        "report_title": _("Report this image"),
        "report_lead": _("Somebody will look at it. What is wrong?"),
        "report_send": pgettext("an image", "Report"),
        "report_disturbing": _("Disturbing"),
        "report_private": _("Private"),
        "report_broken": _("Broken"),
        "no_skip_earlier": _("An earlier answer cannot be skipped."),
        "skipped": _("Skipped."),
        "flagged": _("Flagged for a second look."),
        "flagged_already": _("Flagged already."),
        "comment_kept": _("Comment kept."),
        "reported": _("Reported. You can answer all the same, or skip it."),
        "not_in_practice": _("That is for the study itself; here you practice."),
    }


def own_texts() -> dict[str, str]:
    return {
        "press_key": _("Press the new key for “%(action)s”, or Esc to leave it."),
        "keys_kept": _("Kept."),
        "leave_unsaved": _("Answers are still on their way to the server. Wait until all are saved, then leave."),
        "own_done": _("Answered so far: %(done)s."),
        "own_gold": _("Of %(n)s with a known answer you had %(percent)s percent right."),
    }
