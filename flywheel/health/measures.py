"""The measures of a judge's health, by name."""

from collections.abc import Mapping

DIFFICULTY = ("0-25%", "25-50%", "50-75%", "75-100%")
"""Prompts by the share of their answers that are right; a border counts upwards."""
MEASURES: Mapping[str, str] = {
    "accuracy": "share of the answers that it accepts, above the middle of its scale, or rejects as gold does",
    "kappa": "the same beyond chance (Cohen): 0 is chance, 1 is perfect",
    "accuracy lost": "the best accuracy of the iterations before, minus this one",
    "spearman": "rank correlation of its scores with gold",
    "ranking": "share of the pairs of a right and a wrong answer to a prompt in the right order; ties are half",
    "verdict accuracy": "share of its verdicts between a right and a wrong answer for the right one; a tie is half",
    "true positives": "share of the right answers that it accepts",
    "false positives": "share of the wrong answers that it accepts",
    "precision": "share of the answers that it accepts that are right",
    **{f"precision {bin}": f"the same for prompts of which {bin} of the answers are right" for bin in DIFFICULTY},
    **{
        f"implied precision {bin}": "what true and false positives make of that share of right answers"
        for bin in DIFFICULTY
    },
    "calibration error": "mean distance of the score, on a scale from 0 to 1, from the share of right answers (ECE)",
    "generosity": "mean of score minus gold, both on a scale from 0 to 1",
    "verbosity": "standardised slope of the score over the logarithm of the answer's length",
    "verbosity at equal gold": "the same with gold held fixed",
    "self-preference": "mean score of answers by its own weights minus that of others, at equal gold",
    "flip rate": "share of the pairs whose verdict changes with the order in which they are shown",
    "first slot": "share of the verdicts, ties aside, for the answer that was shown first",
    "anchoring": "share of a meta-judge's verdicts, ties aside, for the judgment with the higher score",
    "retest difference": "mean distance of two votes on an answer",
    "retest alpha": "agreement of the votes on an answer beyond chance (Krippendorff, interval scale)",
    "failed": "share of the votes, or verdicts, that gave nothing; by status, if there was any, in the next four",
    "unparsable": "share that could not be read",
    "timeout": "share that took too long",
    "error": "share that failed",
    "refused": "share that was refused",
    "score": "mean score of the answers",
    "deviation": "standard deviation of the score between answers",
    "drift": "change of the mean score since the first iteration, in standard deviations of that one",
    "saturation": "share of the votes at the top of its scale",
    "right": "of the gold judge: share of the answers that are right; one without a score is not",
}
"""What `health` tells of a judge. Gold is the gold judge's score, 0 for what a rule finds no answer in; an
answer is right if that is above the middle. Where judge or gold say nothing, an answer does not count, but in `right`.
"""
