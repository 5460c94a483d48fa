"""What the project promises when things go wrong, and the tests that hold each promise.

Chapter 16 shows them; a promise whose test does not exist fails the chapter and the tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Promise:
    """group: of the chapter's sections. tests: pytest's node ids, without parameters."""

    group: str
    text: str
    tests: tuple[str, ...]


def _promise(group: str, text: str, *tests: str) -> Promise:
    return Promise(group, text, tuple(f"tests/test_{test}" for test in tests))


KILLED, LOCKED, DISK = "interruptions", "two at once", "full disks"
INPUT, LOADED, SAME, GIVEN = "bad input", "loading", "the same again", "licences"

PROMISES = (
    _promise(
        KILLED, "a killed training ends with the weights and metrics of an undisturbed one",
        "kill.py::test_a_training_killed_at_random_moments_ends_as_an_undisturbed_one",
        "training.py::test_an_interrupted_run_ends_as_an_undisturbed_one",
        "processes.py::test_a_run_whose_process_died_ends_and_resumes_exactly",
    ),
    _promise(
        KILLED, "so do caching, making the city and writing records",
        "kill.py::test_a_killed_job_ends_as_an_undisturbed_one",
        "cache.py::test_a_killed_build_goes_on_to_the_same_bytes",
        "files.py::test_a_killed_write_leaves_the_old_file_and_a_leftover_that_is_cleaned",
    ),
    _promise(
        KILLED, "a damaged checkpoint or record falls back to the one before, and says so",
        "training.py::test_a_damaged_checkpoint_falls_back_to_the_one_before",
        "runs.py::test_a_damaged_record_falls_back_to_the_one_before_and_says_so",
        "runs.py::test_damaged_answers_are_found_again_and_damaged_weights_refused",
    ),
    _promise(
        KILLED, "two checkpoints are kept; what dead processes left is removed, the living's is not",
        "training.py::test_two_checkpoints_are_kept_and_no_more",
        "files.py::test_what_dead_processes_left_half_written_goes_and_the_livings_stays",
    ),
    _promise(
        KILLED, "a chapter that fails or is killed leaves the others alone and is all that is repeated",
        "book.py::test_a_batch_goes_on_after_failures_and_repeats_only_what_is_needed",
        "book.py::test_a_failing_chapter_leaves_its_copy_with_the_error",
        "book.py::test_a_chapter_that_failed_is_in_no_report",
    ),
    _promise(
        KILLED, "a process that dies takes no other along, and none outlives who started it",
        "apart.py::test_what_happens_to_one_does_not_happen_to_the_others",
        "apart.py::test_a_job_ends_when_its_parent_is_killed",
    ),
    _promise(
        LOCKED, "of two that want a run one trains; the other waits, and takes over if the first dies",
        "kill.py::test_of_two_that_want_a_run_one_waits_and_goes_on_where_the_other_died",
    ),
    _promise(
        LOCKED, "who waits is told for whom; the lock of a dead process is nobody's",
        "locks.py::test_who_waits_is_told_for_whom",
        "locks.py::test_the_lock_of_a_killed_process_is_free_and_that_is_said",
    ),
    _promise(
        DISK, "a full disk stops with one clear sentence and nothing half-written",
        "files.py::test_the_systems_own_refusal_is_told_and_leaves_nothing",
        "training.py::test_a_full_disk_stops_training_and_keeps_both_checkpoints",
        "cache.py::test_a_disk_that_fills_up_leaves_what_is_stored",
    ),
    _promise(
        DISK, "room for the checkpoints is asked for before the first step",
        "training.py::test_a_disk_too_small_for_its_checkpoints_is_refused_before_the_first_step",
        "cache.py::test_a_full_disk_is_refused_before_the_start",
    ),
    _promise(
        DISK, "a folder that may not be written to is named",
        "runs.py::test_a_store_that_may_not_be_written_says_so_in_one_line",
        "cache.py::test_a_read_only_folder_says_so",
    ),
    _promise(
        INPUT, "names and label files are read as written or refused with file and row",
        "properties.py::test_label_files_say_what_was_written_in_any_dress",
        "properties.py::test_damaged_label_files_raise_label_errors_only_and_the_doctor_never",
        "properties.py::test_any_other_name_is_refused_or_is_a_place_on_earth_and_no_path",
    ),
    _promise(
        INPUT, "geometry goes there and back in every label system",
        "properties.py::test_offsets_lead_to_the_query_and_back_in_every_label_system",
        "properties.py::test_distances_are_symmetric_and_methods_agree",
    ),
    _promise(
        INPUT, "an upload is a picture or one clear sentence, whatever its bytes",
        "uploads.py::test_damage_anywhere_never_raises_anything_else",
        "uploads.py::test_a_small_file_that_decodes_for_ages_is_ended",
        "uploads.py::test_a_decompression_bomb_is_refused_before_it_is_decoded",
    ),
    _promise(
        INPUT, "images of data sets too: CMYK, 16 bit, palette, alpha, animated, rotated, enormous",
        "dataset.py::test_every_mode_becomes_the_colours_it_shows",
        "dataset.py::test_sixteen_bits_keep_their_brightness",
        "dataset.py::test_damage_anywhere_in_an_image_is_an_image_error",
        "dataset.py::test_an_image_of_one_pixel_is_read_and_an_enormous_one_refused",
    ),
    _promise(
        INPUT, "a loss that is no number stops with its step, its photographs, the last good checkpoint",
        "training.py::test_a_loss_that_is_no_number_is_told_with_its_batch_and_the_last_good_checkpoint",
        "training.py::test_weights_that_are_no_numbers_are_not_kept_though_the_loss_is_one",
    ),
    _promise(
        LOADED, "nothing in a file is executed",
        "safety.py::test_nothing_is_loaded_by_executing_it",
        "training.py::test_nothing_in_a_checkpoint_is_executed",
    ),
    _promise(
        LOADED, "what an older version wrote is read, or refused with the reason",
        "training.py::test_checkpoints_from_before_checksums_are_read_and_later_ones_refused",
        "runs.py::test_a_record_of_another_version_is_refused_with_the_reason",
        "training.py::test_a_checkpoint_of_other_data_or_settings_is_not_gone_on_with",
    ),
    _promise(
        SAME, "the same seed on the same machine gives the same metrics",
        "runs.py::test_the_same_seed_gives_the_same_metrics",
        "verify.py::test_the_record_says_what_decides_the_last_bit",
    ),
    _promise(
        SAME, "a recorded result holds when it is trained again: `make verify-results`",
        "verify.py::test_the_recorded_smoke_result_holds_here",
        "verify.py::test_a_result_that_does_not_hold_is_told",
    ),
    _promise(
        GIVEN, "no photograph of VIGOR is in a notebook, a record or a test",
        "safety.py::test_the_pictures_of_a_chapter_are_those_its_run_on_the_embedded_city_made",
        "safety.py::test_no_other_committed_file_is_a_picture_or_holds_one",
        "safety.py::test_the_licence_of_every_dependency_is_listed",
    ),
)  # fmt: skip


def missing_tests(root: Path, wanted: Iterable[str] = ()) -> list[str]:
    """Node ids, those of all promises by default, that no test file under ``root`` defines."""
    ids = list(wanted) or [test for promise in PROMISES for test in promise.tests]
    return [test for test in ids if not _is_defined(root, test)]


def _is_defined(root: Path, test: str) -> bool:
    file, _, name = test.partition("::")
    if not (root / file).is_file():
        return False
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)
