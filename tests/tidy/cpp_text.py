# SPDX-License-Identifier: Apache-2.0
"""Reads C++ well enough for the rules of the tree: no comments, no literals, where functions end."""

import re

_TOKEN = re.compile(
    r'(?P<raw>R"(?P<tag>[^()\s\\"]{0,16})\(.*?\)(?P=tag)")'
    r'|(?P<string>"(?:[^"\\\n]|\\.)*")'
    r"|(?P<char>(?<![0-9A-Za-z_])(?:u8|[uUL])?'(?:[^'\\\n]|\\.)+')"
    r"|(?P<line>//[^\n]*)"
    r"|(?P<block>/\*.*?\*/)",
    re.DOTALL,
)


def strip(text):
    """The code alone: comments become blanks and literals become "", every line stays in place."""

    def blank(match):
        lines = "\n" * match.group().count("\n")
        return lines if match.lastgroup in ("line", "block") else '""' + lines

    return _TOKEN.sub(blank, text)


def without_preprocessor(code):
    """Blanks directives and what their lines continue to."""
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: "\n" * m.group().count("\n"), code,
                  flags=re.MULTILINE)


_NAMESPACE = re.compile(r'\b(namespace\b[^()]*|extern\s*"")$')
_TYPE = re.compile(r"\b(class|struct|union|enum)\b")


def _is_type(header):
    """`struct A : B` and `template <class T> class C`, but not `struct A F()`."""
    without_templates = re.sub(r"\btemplate\s*<.*?>\s*(?=\b(?:class|struct|union|enum)\b)", "", header,
                               flags=re.DOTALL)
    found = _TYPE.match(without_templates.lstrip())
    if not found:
        return False
    # An attribute or base class may hold parentheses; a function has them before any colon.
    return "(" not in re.sub(r"alignas\s*\([^)]*\)|\[\[.*?\]\]", "",
                             without_templates.split(":", 1)[0], flags=re.DOTALL)


def functions(code):
    """(name, first line, number of lines) of each function body in stripped code.

    A function inside another (a lambda) belongs to the outer one. The count goes from the line of
    the opening to that of the closing brace.
    """
    code = without_preprocessor(code)
    found = []
    scopes = []  # "namespace", "type", "body", or the header that an initializer interrupts
    header_start = 0
    inside = 0  # how many bodies and initializers are open
    for match in re.finditer("[;{}]", code):
        position, char = match.start(), match.group()
        if char == ";" and not inside:
            header_start = position + 1
        elif char == "{":
            header = code[header_start:position].strip()
            header = re.sub(r"^(public|private|protected)\s*:", "", header).strip()
            if inside:
                kind = "nested"
            elif _NAMESPACE.search(header):
                kind = "namespace"
            elif _is_type(header):
                kind = "type"
            else:
                kind = "body"
            if kind in ("nested", "body"):
                inside += 1
            scopes.append((kind, position, header_start))
            if kind in ("namespace", "type"):
                header_start = position + 1
        elif char == "}" and scopes:
            kind, start, header_before = scopes.pop()
            if kind in ("nested", "body"):
                inside -= 1
            if inside:
                continue
            following = re.compile(r"\s*(.?)").match(code, position + 1).group(1)
            if kind == "body" and following in tuple(",{)"):
                continue  # it was a member initializer or a default argument: the header goes on
            if kind == "body" and "(" in code[header_before:start] and following != ";":
                first = code.count("\n", 0, start) + 1
                last = code.count("\n", 0, position) + 1
                found.append((_name(code[header_before:start]), first, last - first + 1))
            header_start = position + 1
    return found


def _name(header):
    found = re.findall(r"(operator\s*[^\s\w(]+|[~\w:]+)\s*\(", header)
    return found[0] if found else "?"
