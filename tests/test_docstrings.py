"""Docstrings begin with a verb or a noun, and everything public has one."""

import ast
import doctest
import importlib
import inspect
import io
import re
import tokenize

import pytest

import slipstream
from source_files import NAMES, SOURCE, tree

# Rooms in which everything public has a docstring. A room is a module or a package below slipstream.
ROOMS = {"core", "losses", "metrics", "optimizers", "regularizers", "augmentations", "models", "loggers"}
ROOMS |= {"activations", "initializers", "schedulers", "early_stopping", "training", "runs", "cli"}
ROOMS |= {"config", "data", "sweeps", "testing", "__main__", "inference"}

QUESTIONS = {"What", "Whether", "How", "Which", "Who", "Where", "When", "Why"}
# Words of ours for which the field has others, and phrases that sound translated.
UNUSUAL = re.compile(
    r"\b(mend\w*|crews?|drains?|so many that|from which on|dear|(is|are) told|preparing\.\w+"
    r"|taken out|begins? anew|says? nothing to)\b"
)
# The same in messages, where a word of code cannot be meant.
UNUSUAL_MESSAGES = re.compile(
    r"\b(taken out|cannot be told|begins? anew|is no (address|column|network|number|run|table|tensor)\b"
    r"|are no (table|numbers)|none of this run|send parts|leave it out otherwise)",
    re.IGNORECASE,
)
FILES = {"__init__": SOURCE / "__init__.py"} | NAMES
PUBLIC = sorted(set(dir(slipstream)) - {"__version__"})
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def definitions(node, inside=""):
    """Yield a module and its classes and functions with their dotted names, but none inside functions."""
    if isinstance(node, KINDS):
        inside = f"{inside}.{getattr(node, 'name', '')}".strip(".")
        yield inside, node
    # No function is looked into, and no expression defines one.
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.expr):
        for child in ast.iter_child_nodes(node):
            yield from definitions(child, inside)


def problems(tree):
    """Return a sentence for every docstring that begins with a question, and every public name without one.

    torch describes `forward`, a property's getter its setter, and a function its overloads.
    """
    found = []
    for name, node in definitions(tree):
        first = (ast.get_docstring(node) or "").split(maxsplit=1)[:1]
        if first and first[0].strip(",:.") in QUESTIONS:
            found.append(f"{name or 'the module'} begins with {first[0]}")
        public = not any(part.startswith("_") for part in name.split("."))
        if (
            not first
            and public
            and name.rpartition(".")[2] != "forward"
            and not _is_described_elsewhere(node)
        ):
            found.append(f"{name or 'the module'} has no docstring")
    return found


def _is_described_elsewhere(node):
    decorators = map(ast.unparse, getattr(node, "decorator_list", ()))
    return any(text == "overload" or text.endswith(".setter") for text in decorators)


def test_docstrings_begin_with_a_verb_or_a_noun():
    """No docstring begins with a question, and every public class and function has one."""
    for name, file in FILES.items():
        complete = name == "__init__" or name.split(".")[0] in ROOMS
        found = [said for said in problems(tree(file)) if complete or not said.endswith("has no docstring")]
        assert found == [], name


def test_the_check_sees_what_it_should():
    """Questions and missing docstrings are found at every level; private names may have none."""
    source = '''"""Why: x."""
class A:
    """A."""
    def f(self):
        """Whether."""
    def g(self): ...
def _private(): ...
def h():
    def inner(): ...
'''
    begins = ["the module begins with Why:", "A.f begins with Whether."]
    assert problems(ast.parse(source)) == [*begins, "A.g has no docstring", "h has no docstring"]


def comments(source):
    """Yield the comments of a file with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.slow
def test_docstrings_and_comments_use_the_fields_words():
    """No docstring or comment has words that only we would use, and a summary ends on its line."""
    for name, file in FILES.items():
        source = file.read_text(encoding="utf-8")
        texts = [(inside, ast.get_docstring(node) or "") for inside, node in definitions(tree(file))]
        # To tell comments apart takes long.
        said = [*texts, *comments(source)] if UNUSUAL.search(source) else []
        assert [text for text in said if UNUSUAL.search(text[1])] == [], name
        summaries = [(inside, text.partition("\n")[0]) for inside, text in texts if text]
        assert [text for text in summaries if not text[1].endswith((".", ":", ")", "?"))] == [], name


@pytest.mark.slow
def test_messages_use_the_fields_words():
    """No file has a phrase that sounds translated, in messages as in docstrings."""
    found = {
        name: match[0]
        for name, file in FILES.items()
        if (match := UNUSUAL_MESSAGES.search(file.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_sections_and_an_example(name):
    """Each name of `slipstream` is documented with its arguments, its result and a doctest that runs."""
    thing = getattr(slipstream, name)
    text = inspect.getdoc(thing)
    wanted = ["Example:"] if inspect.isclass(thing) else ["Args:", "Returns:", "Raises:", "Example:"]
    assert [section for section in wanted if f"\n{section}\n" not in text] == []
    examples = doctest.DocTestParser().get_examples(text)
    assert examples
    assert not any(doctest.SKIP in example.options for example in examples)
    for parameter in () if inspect.isclass(thing) else inspect.signature(thing).parameters:
        assert f"\n    {parameter}: " in text, parameter


def model():
    """Return the class of what `load` returns."""
    return importlib.import_module("slipstream.runs.prediction").Model


def undescribed(names, text):
    """Return the names of which no line of a section ("a, b: ...") tells."""
    lines = re.findall(r"^    ((?:\w+, )*\w+): ", text, re.MULTILINE)
    return sorted(set(names) - {name for line in lines for name in line.split(", ")})


@pytest.mark.parametrize("name", [*(name for name in PUBLIC if name[0].isupper()), "Model"])
def test_public_classes_describe_their_arguments_and_methods(name):
    """A public class describes what it is made of, and its methods their arguments, results and errors."""
    thing = model() if name == "Model" else getattr(slipstream, name)
    text = inspect.getdoc(thing)
    assert "Example:" in text
    if not issubclass(thing, Exception) and name != "Model":
        assert undescribed(inspect.signature(thing).parameters, text) == []
    for member in vars(thing).values():
        method = getattr(member, "__func__", member)
        if (
            inspect.isfunction(method)
            and not method.__name__.startswith("_")
            and thing.__module__ == method.__module__
        ):
            arguments = [each for each in inspect.signature(method).parameters if each not in ("self", "cls")]
            own = inspect.getdoc(method)
            wanted = ["Args:", "Returns:"] if arguments else []
            wanted += ["Raises:"] if "raise " in inspect.getsource(method) else []
            assert [section for section in wanted if f"\n{section}\n" not in own] == [], method
            assert undescribed(arguments, own) == [], method


def test_a_missing_description_is_seen():
    """Arguments count as described by themselves or several in one line, and not in prose."""
    assert undescribed("abcd", "Args:\n    a, b: x.\n    c: y, and d: z.\n") == ["d"]


def test_the_public_model_is_documented():
    """`load` returns a Model whose `predict` has all sections."""
    for section in ("Args:", "Returns:", "Raises:"):
        assert f"\n{section}\n" in inspect.getdoc(model().predict)
