"""Renames a function or a parameter across a package, or says why that cannot be done safely.

Usage: rename.py ROOT {"function": F, "parameter": P or null, "to": NEW}; prints one JSON object.

What an occurrence means is read from the syntax tree, where it stands from the tokens. Only when every token
of the old name is explained is anything written, and only when the new tree, with the names put back, is the
old tree.
"""

import ast
import io
import json
import keyword
import os
import sys
import tokenize


class Refused(Exception):
    pass


class Module:
    """One source file: its text, its tree, and every token that is a name."""

    def __init__(self, root, path):
        self.path = os.path.relpath(path, root)
        self.name = self.path[:-3].replace(os.sep, ".").removesuffix(".__init__")
        with tokenize.open(path) as file:
            self.encoding, self.text = file.encoding, file.read()
        try:
            self.tree = ast.parse(self.text)
        except SyntaxError as error:
            raise Refused(f"{self.path} is no valid Python: {error}")
        self.lines = io.StringIO(self.text, newline="").readlines()
        read = io.StringIO(self.text, newline="").readline
        self.tokens = [t for t in tokenize.generate_tokens(read) if t.type in (tokenize.NAME, tokenize.STRING)]

    def place(self, node):
        """Line and character of a node: the tree counts bytes."""
        line = self.lines[node.lineno - 1].encode()
        return node.lineno, len(line[: node.col_offset].decode())

    def named(self, name):
        return {token.start for token in self.tokens if token.type == tokenize.NAME and token.string == name}

    def first_named(self, name, node):
        """The first token of this name within a node that does not tell where its name stands."""
        end = (node.end_lineno, node.end_col_offset)
        return next(p for p in sorted(self.named(name)) if self.place(node) <= p < end)


def modules(root):
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__pycache__")
        for file in sorted(files):
            if file.endswith(".py"):
                yield Module(root, os.path.join(folder, file))


def definition(package, name):
    """The module and the node of the one function of this name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [(m, n) for m in package for n in m.tree.body if isinstance(n, kinds) and n.name == name]
    if len(found) != 1:
        raise Refused(f"{len(found)} functions are called {name}; exactly one is needed")
    return found[0]


def aliases(module, home):
    """The names under which a module knows the home of the function."""
    known = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            known |= {a.asname or a.name for a in node.names if a.name == home.name}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            known |= {a.asname or a.name for a in node.names if f"{node.module}.{a.name}" == home.name}
    return known


def dotted(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return None


def function_places(module, home, definition, name):
    """Every place where a module names the function."""
    imports = [n for n in ast.walk(module.tree) if isinstance(n, ast.ImportFrom)]
    ours = [n for n in imports if n.level == 0 and n.module == home.name and any(a.name == name for a in n.names)]
    knows = module is home or ours
    known, places = aliases(module, home), set()
    for node in ast.walk(module.tree):
        if node is definition:
            places.add(module.first_named(name, node))
        elif node in ours:
            places |= {module.place(a) for a in node.names if a.name == name}
        elif knows and isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            places.add(module.place(node))
        elif isinstance(node, ast.Attribute) and node.attr == name and dotted(node.value) in known:
            end = (node.end_lineno, len(module.lines[node.end_lineno - 1].encode()[: node.end_col_offset].decode()))
            places.add((end[0], end[1] - len(name)))
    return places


def calls(module, home, name):
    """The calls of the function in a module, by its own name or through its module's."""
    paths = {f"{alias}.{name}" for alias in aliases(module, home)} | {name}
    return [n for n in ast.walk(module.tree) if isinstance(n, ast.Call) and dotted(n.func) in paths]


def parameter_places(module, home, function, name):
    """Every place where a module names the parameter; other things of its name are left alone."""
    places = set()
    for call in calls(module, home, function.name):
        if any(k.arg is None for k in call.keywords):
            raise Refused(f"{module.path}:{call.lineno} calls {function.name} with **")
        places |= {module.place(k) for k in call.keywords if k.arg == name}
    if module is home:
        own = {id(a) for a in ast.walk(function.args) if isinstance(a, ast.arg)}
        for node in ast.walk(function):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and node is not function:
                if any(a.arg == name for a in ast.walk(node.args) if isinstance(a, ast.arg)):
                    raise Refused(f"{name} is a parameter of another function within {function.name}")
            elif isinstance(node, ast.comprehension):
                if any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node.target)):
                    raise Refused(f"{name} is bound again within {function.name}")
            elif isinstance(node, ast.arg) and id(node) in own and node.arg == name:
                places.add(module.place(node))
        # Defaults and annotations are read where the function is defined: a name there is not the parameter.
        for part in function.body:
            places |= {module.place(n) for n in ast.walk(part) if isinstance(n, ast.Name) and n.id == name}
        places |= mentions(module, function, name)
    return places


def mentions(module, function, name):
    """Where the documentation of the function names the parameter, in backticks."""
    if ast.get_docstring(function) is None:
        return set()
    text, quoted = function.body[0], f"`{name}`"
    rows = range(text.lineno, text.end_lineno + 1)
    found = {(row, module.lines[row - 1].find(quoted) + 1) for row in rows}
    return {(row, column) for row, column in found if column > 0}


def rewritten(module, places, old, new):
    """The text with the name replaced at these places."""
    lines = list(module.lines)
    for row, column in sorted(places, reverse=True):
        line = lines[row - 1]
        assert line[column:].startswith(old), (module.path, row, column)
        lines[row - 1] = line[:column] + new + line[column + len(old):]
    return "".join(lines)


def put_back(tree, old, new):
    """The tree as text, the new name made the old one again; it occurred nowhere before."""
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if value == new and field in ("id", "name", "attr", "arg"):
                setattr(node, field, old)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = node.value.replace(f"`{new}`", f"`{old}`")
    return ast.dump(tree)


def rename(root, wish):
    name, parameter, new = wish["function"], wish.get("parameter"), wish["to"]
    old = parameter or name
    if not new.isidentifier() or keyword.iskeyword(new):
        raise Refused(f"{new!r} is no name")
    package = sorted(modules(root), key=lambda module: module.path)
    home, function = definition(package, name)
    if parameter and parameter not in {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}:
        raise Refused(f"{name} has no parameter {parameter}")
    changed = []
    for module in package:
        if module.named(new) or f"`{new}`" in module.text:
            raise Refused(f"{new} is a name in {module.path} already")
        if parameter:
            places = parameter_places(module, home, function, old)
            written = mentions(module, function, old) if module is home else set()
            unexplained = places - written - module.named(old)
        else:
            places = function_places(module, home, function, old)
            unexplained = places ^ module.named(old)
        if unexplained:
            row, _ = min(unexplained)
            raise Refused(f"{module.path}:{row} uses {old} in a way that cannot be told apart safely")
        if places:
            text = rewritten(module, places, old, new)
            if put_back(ast.parse(text), old, new) != ast.dump(module.tree):
                raise Refused(f"{module.path} would mean something else")
            changed.append((module, text, len(places)))
    for module, text, _ in changed:
        with open(os.path.join(root, module.path), "w", encoding=module.encoding, newline="") as file:
            file.write(text)
    return [{"path": module.path, "places": places} for module, _, places in changed]


if __name__ == "__main__":
    try:
        print(json.dumps({"files": rename(sys.argv[1], json.loads(sys.argv[2]))}))
    except Refused as refusal:
        print(json.dumps({"refused": str(refusal)}))
