"""What every lesson of the course keeps, and that its exercises are solved beside it."""

import re
from pathlib import Path

from tests.helpers.for_each import for_each
from tests.helpers.stored_notebooks import (
    FOLDER,
    LESSONS,
    NOTEBOOKS,
    STUB,
    Exercise,
    exercises,
    headings,
    joined,
    load,
    prose,
)

SOLUTIONS = FOLDER / "solutions"
BYTES = 4_000_000  # of all notebooks: a checkout and GitHub's pages stay quick

every_lesson = for_each({path.stem: (path,) for path in LESSONS})
every_exercise = for_each(
    {
        f"{path.stem}-{number}": (path, exercise)
        for path in LESSONS
        for number, exercise in enumerate(exercises(load(path)), start=1)
    }
)


def solutions_of(lesson: Path) -> list[Exercise]:
    path = SOLUTIONS / lesson.name
    assert path.is_file(), f"{lesson.name} has no {path.relative_to(FOLDER)}"
    return exercises(load(path))


@every_lesson
def test_a_lesson_opens_with_a_promise_the_time_and_the_goals(lesson: Path) -> None:
    paragraphs = joined(load(lesson)["cells"][0]["source"]).split("\n\n")
    assert len(paragraphs) >= 5, "title, promise, time, goals' heading and goals are five"
    _, promise, *rest = paragraphs
    assert re.match(r"[A-Z].*\.$", promise, flags=re.DOTALL), f"no promise: {promise[:60]!r}"
    cost = next((one for one in rest if one.startswith("**Time and hardware:** ")), "")
    assert re.search(r"minutes? to read.* to run", cost), "say how long reading and running take"
    assert rest.index("**After this notebook you can**") < len(rest) - 1
    goals = rest[rest.index("**After this notebook you can**") + 1]
    assert len(re.findall(r"^- ", goals, flags=re.MULTILINE)) >= 3


@every_lesson
def test_a_lesson_ends_with_exercises_a_summary_and_the_paper(lesson: Path) -> None:
    wanted = ["Exercises", "What you learned", "Where this departs from the paper"]
    assert [one for one in headings(load(lesson)) if one in wanted] == wanted


@every_lesson
def test_exercises_are_numbered_and_the_solutions_linked(lesson: Path) -> None:
    notebook = load(lesson)
    numbers = [int(re.findall(r"\d+", one.title)[0]) for one in exercises(notebook)]
    assert numbers
    assert numbers == list(range(1, len(numbers) + 1))
    after = prose(notebook).partition("## Exercises\n")[2].partition("### ")[0]
    assert f"](solutions/{lesson.name})" in after


@every_exercise
def test_an_exercise_says_what_it_takes_and_hides_a_hint(lesson: Path, exercise: Exercise) -> None:
    assert re.search(r"\*(Easy|Medium|Hard), about \d+ minutes\.\*", exercise.text)
    folded = re.search(
        r"<details><summary>Hint</summary>\n\n(.+?)\n\n</details>", exercise.text, flags=re.DOTALL
    )
    assert folded, "the hint is folded: <details><summary>Hint</summary> … </details>"
    assert exercise.text.strip().endswith("</details>"), "the task comes before its hint"


@every_exercise
def test_an_exercise_has_one_place_for_the_answer_and_checks_it(
    lesson: Path, exercise: Exercise
) -> None:
    stubs = STUB.findall(exercise.source)
    assert len(stubs) == 1, f"one stub (`x = None` or a body of `...`), not {stubs}"
    for said in ('"Your turn: ', '"Right."', '"Not yet'):
        assert said in exercise.source, f"the cell never prints {said}"
    assert "Right." not in exercise.shown, "the answer is stored in the lesson"


@every_lesson
def test_solutions_lead_back_to_their_lesson(lesson: Path) -> None:
    assert len(solutions_of(lesson)) > 0
    notebook = load(SOLUTIONS / lesson.name)
    assert joined(notebook["cells"][0]["source"]).startswith("# Solutions: ")
    assert f"](../{lesson.name}#Exercises)" in prose(notebook)


@every_lesson
def test_every_exercise_is_solved_under_its_own_title(lesson: Path) -> None:
    asked = [one.title for one in exercises(load(lesson))]
    assert [one.title for one in solutions_of(lesson)] == asked


@every_exercise
def test_a_solution_is_the_lessons_cell_with_an_answer_in_the_stubs_place(
    lesson: Path, exercise: Exercise
) -> None:
    (solution,) = (one for one in solutions_of(lesson) if one.title == exercise.title)
    stub = STUB.search(exercise.source)
    assert stub
    given, check = exercise.source[: stub.start()], exercise.source[stub.end() :]
    assert solution.source.startswith(given), "what stands above the stub is not as in the lesson"
    assert solution.source.endswith(check), "the check below the stub is not as in the lesson"
    answer = solution.source[len(given) : len(solution.source) - len(check)]
    assert answer.strip()
    assert not STUB.search(answer)


@every_exercise
def test_a_solution_says_why_and_is_right(lesson: Path, exercise: Exercise) -> None:
    (solution,) = (one for one in solutions_of(lesson) if one.title == exercise.title)
    assert solution.text.strip(), "say in a sentence why the answer is right"
    assert solution.shown == "Right."


def test_no_solutions_without_a_lesson() -> None:
    names = {path.name for path in LESSONS}
    assert not [path.name for path in SOLUTIONS.glob("*.ipynb") if path.name not in names]


@every_lesson
def test_the_tour_and_the_readme_name_the_lessons_minutes(lesson: Path) -> None:
    opening = joined(load(lesson)["cells"][0]["source"])
    found = re.search(r"(\d+) minutes? to read", opening)
    assert found
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"\(notebooks/{lesson.name}\) \| {found[1]} \|", readme)
    if lesson != LESSONS[0]:
        assert re.search(rf"\({lesson.name}\) \|.*\| {found[1]} \|", prose(load(LESSONS[0])))


def test_the_tour_lists_every_lesson() -> None:
    tour, *others = LESSONS
    linked = re.findall(r"^\| \[.+?\]\((.+?)\) \|", prose(load(tour)), flags=re.MULTILINE)
    assert linked == [path.name for path in others]


def test_all_notebooks_together_stay_light() -> None:
    sizes = {path.relative_to(FOLDER).as_posix(): path.stat().st_size for path in NOTEBOOKS}
    assert sum(sizes.values()) <= BYTES
    heavy = [name for name, size in sizes.items() if name.startswith("solutions") and size > 1e5]
    assert not heavy, "a solution needs no large figures"
