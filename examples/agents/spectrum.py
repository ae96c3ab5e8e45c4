"""Runs the suite once and tells, for each test, whether it passed and which lines it ran.

A test also stands on lines that run when a module is loaded: the head of each function it
calls (its defaults), and the constants and fields its functions name. Prints a JSON object for each.
"""

import ast
import json
import os
import sys
import unittest

ROOT = os.getcwd() + os.sep
codes = set()
lines = set()


def trace(frame, event, _):
    code = frame.f_code
    if not code.co_filename.startswith(ROOT):
        return None
    codes.add(code)

    def local(frame, event, _):
        if event == "line":
            lines.add((code.co_filename, frame.f_lineno))
        return local

    return local


def named(*nodes):
    """The names that stand in some expressions."""
    inner = [child for node in nodes if node for child in ast.walk(node)]
    return {child.id for child in inner if isinstance(child, ast.Name)}


class Outline(ast.NodeVisitor):
    """Where a file's functions begin, and what it assigns outside of them."""

    def __init__(self):
        self.heads = {}
        self.assigned = []

    def visit_FunctionDef(self, node):
        first = min([node.lineno] + [each.lineno for each in node.decorator_list])
        span = range(node.lineno, max(node.body[0].lineno, node.lineno + 1))
        self.heads[first] = (span, named(*node.args.defaults, *node.args.kw_defaults))

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Assign(self, node):
        span = range(node.lineno, node.end_lineno + 1)
        targets = getattr(node, "targets", None) or [node.target]
        self.assigned.append((named(*targets), span, named(node.value)))

    visit_AnnAssign = visit_Assign


outlines = {}


def outline(path):
    if path not in outlines:
        outlines[path] = Outline()
        try:
            with open(path, encoding="utf-8") as source:
                outlines[path].visit(ast.parse(source.read()))
        except (OSError, SyntaxError, ValueError):
            pass
    return outlines[path]


def stands_on():
    """The lines of the test that has just run, by file."""
    names = {name for code in codes for name in code.co_names}
    for code in codes:
        span, defaults = outline(code.co_filename).heads.get(code.co_firstlineno, ((), ()))
        lines.update((code.co_filename, line) for line in span)
        names.update(defaults)
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    inside = [path for path in loaded if path and path.startswith(ROOT)]
    left = [(path, *each) for path in inside for each in outline(path).assigned]
    known = -1
    while known != len(names):
        known = len(names)
        for path, targets, span, values in left:
            if targets & names:
                lines.update((path, line) for line in span)
                names |= values
    ran = {}
    for path, line in sorted(lines):
        ran.setdefault(path[len(ROOT):], []).append(line)
    return ran


class Result(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        self.before = len(self.failures) + len(self.errors)
        codes.clear()
        lines.clear()
        sys.settrace(trace)

    def stopTest(self, test):
        sys.settrace(None)
        passed = len(self.failures) + len(self.errors) == self.before
        print(json.dumps({"test": test.id(), "passed": passed, "lines": stands_on()}), file=OUT)
        super().stopTest(test)


OUT = sys.stdout
sys.stdout = sys.stderr
sys.path.insert(0, os.getcwd())
unittest.defaultTestLoader.discover(".").run(Result())
