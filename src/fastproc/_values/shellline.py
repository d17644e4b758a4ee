"""An expression as text: the calls that make it, and a line for a shell.

A line is read, and pasted. Each option of a command is in one of three tables: what a line shows in a shell's or a
tool's words; what may be left out, with the reason; and all others, which no line can say. A command with one of these
begins with the option in parentheses, `(user=bob) id`, a syntax error to every shell: nothing of the line runs.
"""

from __future__ import annotations

from fastproc._values.combination import Pipe, Scoped, Sequence, Tee, leaves
from fastproc._values.command import Command, substituted_path
from fastproc._values.quoting import pasteable
from fastproc._values.redirect import DEVNULL, PIPE, STDERR, STDOUT, Append

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from fastproc._values.combination import Substitute
    from fastproc._values.command import Expression

_MAPPINGS = ("env", "env_add", "fds")
_STREAMS = (("stdin", "<", ""), ("stdout", ">", ""), ("stderr", "2>", "2"))

SHOWN = frozenset(
    (
        *("cwd", "relative_to_parent", "env", "env_add", "env_remove", "umask", "substitutes"),
        *("stdin", "stdout", "stderr", "swap_outputs", "fds", "pass_fds"),
        *("setsid", "no_new_privs", "rlimits", "sigmask", "sigignore"),
    )
)
"""Options that a line shows, in its own words or those of env(1), prlimit(1), setpriv(1) and setsid(1)."""

LEFT_OUT = {
    **dict.fromkeys(
        ("nice", "ionice", "affinity", "scheduler", "timer_slack_ns", "oom_score_adj", "pipe_size"),
        "how fast it runs, not what it does",
    ),
    **dict.fromkeys(
        ("pgid", "foreground", "pty", "restore_signals", "sigdefault"), "a shell gives each command the same"
    ),
    **dict.fromkeys(
        ("pdeathsig", "die_with_parent", "kill_tree", "subreaper", "close_fds"),
        "about this process, which is not there",
    ),
    **dict.fromkeys(("check", "ok_codes", "sigpipe_ok"), "about the status; a pipe or sequence shows `|| :`"),
    **dict.fromkeys(
        ("capture", "stdout_limit", "stderr_limit", "on_line", "tee"), "the output goes to whoever runs the line"
    ),
    "input": "may be a secret; whoever runs the line is asked for it",
    **dict.fromkeys(("timeout", "grace", "drain_timeout", "idle_timeout"), "whoever runs the line can end it"),
}
"""Options that a line does without, each with the reason why it does no other harm then."""

_SIGNS = {"stdin": ("<", ""), "stdout": (">", ""), "stderr": ("2>", "2")}
_SWAP = "3>&1 1>&2 2>&3 3>&-"
_RESOURCES = (
    *("cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending"),
    *("msgqueue", "nice", "rtprio", "rttime"),
)
_RLIM_INFINITY = 2**64 - 1
# Words that a shell takes for itself where a program's name stands. Those that a quote disarms are keywords. Builtins
# that do what the program of their name does, such as echo and test, are not here.
_KEYWORD_NAMES = (
    "if then else elif fi do done case esac while until for select function in time coproc foreach repeat end"
)
_BUILTIN_NAMES = (
    ". : alias bg bind break builtin caller cd command compgen complete compopt continue declare dirs disown enable "
    "eval exec exit export fc fg getopts hash help history jobs kill let local logout mapfile popd pushd read "
    "readarray readonly return set shift shopt source suspend times trap type typeset ulimit umask unalias unset wait "
    # Those of dash, ksh and zsh.
    "autoload bindkey bye chdir emulate float functions hist integer limit log nocorrect noglob print pushln r rehash "
    "sched setopt ttyctl unfunction unhash unlimit unsetopt vared whence where zle zmodload"
)
_KEYWORDS = frozenset(_KEYWORD_NAMES.split())
_BUILTINS = frozenset(_BUILTIN_NAMES.split())
_VALUE = 100


def call(expression: Expression) -> str:
    """Return the calls that make an equal expression, as far as the options' own repr() allow."""
    if not isinstance(expression, Command):
        return _calls(expression)
    values = expression._options.values
    words = [repr(item) for item in expression.argv]
    for index, item in substituted(expression):
        words[index] = repr(item)
    for name, value in values.items():
        if name in _MAPPINGS:
            value = dict(value)
        elif name == "rlimits":
            value = {number: (soft, hard) for number, soft, hard in value}
        elif name == "substitutes":
            continue
        words.append(f"{name}={value!r}")
    return f"cmd({', '.join(words)})"


def line(expression: Expression) -> str:
    """Return the expression as a shell line: directory, environment, arguments, redirections.

    The values of environment variables are shown. What a shell has no word for is left out where that does no harm
    (LEFT_OUT), and else makes it a line that no shell runs.
    """
    if not isinstance(expression, Command):
        return _lines(expression)
    values = expression._options.values
    argv = expression.argv
    words = [pasteable(word) for word in argv]
    cwd = values.get("cwd")
    if "relative_to_parent" in values:
        # `cd` has put there where it comes from.
        words[0] = f'"$OLDPWD"/{words[0]}'
    for index, item in substituted(expression):
        words[index] = f"{'>' if item.writes else '<'}({line(item.expression)})"
    program = argv[0]
    if program in _KEYWORDS or "=" in program:
        words[0] = f"'{words[0]}'" if words[0] == program else words[0]
    refused = notes(expression)
    before = _environment(values, [*_tools(values)], argv)
    text = " ".join([*([f"({' '.join(refused)})"] if refused else ()), *before, *words])
    streams = [*_redirections(values)]
    if "umask" in values:
        # The files of redirections are made outside of it.
        text = f"( umask {values['umask']:03o} && {text} )"
    if cwd is None:
        return " ".join([text, *streams])
    place = f"/dev/fd/{cwd}" if isinstance(cwd, int) else str(cwd)
    # `cd -` and `cd +1` are other directories, and without a dot CDPATH is searched.
    text = f"cd {pasteable(place if place.startswith(('/', './', '../')) else f'./{place}')} && {text}"
    if any(map(_is_relative, _paths(values))):
        # The files of redirections are opened in the directory that it comes from.
        text = f"( {text} )"
    return " ".join([text, *streams])


def notes(expression: Expression) -> list[str]:
    """Return the options that a line cannot say, with their values, of a command and its substitutions."""
    found: dict[str, None] = {}
    for command in leaves(expression):
        argv0 = command.argv[0]
        values = command._options.values
        if "=" in argv0 and _by_env(values, command.argv):
            # env(1) takes it for a variable.
            found["program"] = None
        for name, value in values.items():
            if name in SHOWN or name in LEFT_OUT:
                continue
            if name == "capabilities" or type(value) in (str, int, bool) or _is_simple(value):
                found[f"{name}={pasteable(str(value)[:_VALUE])}"] = None
            else:
                found[name] = None
        for number, _, _ in values.get("rlimits", ()):
            if number >= len(_RESOURCES):
                found[f"rlimits={number}"] = None
    return list(found)


def _is_simple(value: object) -> bool:
    return isinstance(value, tuple) and all(type(item) in (str, int) for item in value)


def substituted(command: Command) -> Iterator[tuple[int, Substitute]]:
    """Give the substitutions of a command with their places among the arguments."""
    substitutes = command._options.get("substitutes")
    if substitutes:
        for number, item in enumerate(substitutes):
            yield command.argv.index(substituted_path(number)), item


def _tools(values: Mapping[str, Any]) -> Iterator[str]:
    """Give the programs that change what a shell cannot, each of which executes what follows it."""
    if values.get("no_new_privs"):
        yield "setpriv --no-new-privs"
    limits = [
        f"--{_RESOURCES[number]}={_limit(soft)}:{_limit(hard)}"
        for number, soft, hard in values.get("rlimits", ())
        if number < len(_RESOURCES)
    ]
    if limits:
        yield f"prlimit {' '.join(limits)}"
    if values.get("setsid"):
        # In a shell it may be the leader of a group already, and forks then.
        yield "setsid -w"
    for option, name in (("block", "sigmask"), ("ignore", "sigignore")):
        numbers = values.get(name, ())
        if numbers and numbers != "keep":
            yield f"env --{option}-signal={','.join(map(str, numbers))}"


def _limit(value: int) -> str:
    return "unlimited" if value == _RLIM_INFINITY else str(value)


def _by_env(values: Mapping[str, Any], argv: tuple[str, ...]) -> bool:
    """Whether env(1) has to start it."""
    program = argv[0]
    return (
        "env" in values
        or "env_remove" in values
        or program in _BUILTINS
        # It assigns a variable of the shell's then.
        or (program == "printf" and argv[1:2] and argv[1].startswith("-v"))
        or program.startswith("%")
        or not all(map(_is_name, dict(values.get("env_add", ()))))
        or any(name in values and values[name] != "keep" for name in ("sigmask", "sigignore"))
    )


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()


def _environment(values: Mapping[str, Any], tools: list[str], argv: tuple[str, ...]) -> list[str]:
    """Return what stands before the program: assignments and tools, or tools and env(1) with its own."""
    removed: tuple[str, ...] = values.get("env_remove", ())
    added: dict[str, str] = dict(values.get("env_add", ()))
    if "env" in values:
        whole: dict[str, str] = dict(values["env"])
        added = {name: value for name, value in whole.items() if name not in removed} | added
    assignments = [_assignment(name, value) for name, value in added.items()]
    # A shell takes an assignment only with a plain name, and some programs' names for its own; env(1) takes any.
    if not _by_env(values, argv):
        return assignments + tools
    words = [] if tools and tools[-1].startswith("env ") else ["env"]
    if "env" in values:
        words.append("-i")
    elif removed:
        words += [f"-u {pasteable(name)}" for name in removed]
    if argv[0].startswith("-") and not assignments:
        words.append("--")
    return tools + words + assignments


def _assignment(name: str, value: str) -> str:
    return f"{name}={pasteable(value)}" if _is_name(name) else pasteable(f"{name}={value}")


def _redirections(values: Mapping[str, Any]) -> Iterator[str]:
    shown = [redirection(values.get(name), sign, number) for name, sign, number in _STREAMS]
    if values.get("stdout") is STDERR:
        shown[1:] = reversed(shown[1:])  # a shell does them in order: stderr must be in place first
    yield from filter(None, shown)
    if "swap_outputs" in values:
        yield "3>&1 1>&2 2>&3 3>&-"
    for number, source in values.get("fds", ()):
        yield f"{number}<&{_number(source)}"
    for source in values.get("pass_fds", ()):
        yield f"{_number(source)}<&{_number(source)}"


def _paths(values: Mapping[str, Any]) -> Iterator[str]:
    for name, _, _ in _STREAMS:
        stream = values.get(name)
        if isinstance(stream, str):
            yield stream
        elif isinstance(stream, Append):
            yield str(stream.path)


def _is_relative(path: str) -> bool:
    return not path.startswith("/")


def redirection(stream: object, sign: str, number: str) -> str:
    """Return the redirection of one stream as a word of a shell; "" for one that stays, or is captured."""
    if stream is DEVNULL:
        return sign + "/dev/null"
    if stream is STDOUT:
        return "2>&1"
    if stream is STDERR:
        return "1>&2"
    if isinstance(stream, str):
        return sign + pasteable(stream)
    if isinstance(stream, Append):
        return f"{number}>>{pasteable(stream.path)}"
    if isinstance(stream, int) and stream >= 0:
        return f"{sign}&{int(stream)}"
    if stream is not None and not isinstance(stream, int):
        return f"{sign}&{_number(stream)}"
    return ""


def _number(source: object) -> object:
    """The descriptor of a number or a file; a file that has none any more shows as "?"."""
    if isinstance(source, int):
        return int(source)
    try:
        return source.fileno()  # type: ignore[attr-defined]
    except (OSError, ValueError):
        return "'?'"


# -- combinations


def _calls(expression: Expression) -> str:
    """Return the calls that make a combination."""
    if isinstance(expression, Pipe):
        return " | ".join(map(repr, expression.parts))
    if isinstance(expression, Sequence):
        following = zip(expression.conditions, expression.parts[1:], strict=True)
        words = [f".{'then' if on_success else 'or_else'}({part!r})" for on_success, part in following]
        return _operand(expression.parts[0]) + "".join(words)
    if isinstance(expression, Tee):
        return f"{_operand(expression.source)}.tee({', '.join(map(repr, expression.consumers))})"
    assert isinstance(expression, Scoped)
    return f"{_operand(expression.inner)}.{_method(expression.name, expression.value)}"


def _operand(expression: Expression) -> str:
    return f"({expression!r})" if isinstance(expression, Pipe) else repr(expression)


def _method(name: str, value: object) -> str:
    if name == "swap":
        return "stdout_stderr_swap()"
    if name == "unchecked":
        return "unchecked()"
    if name == "input":
        return f"stdin_bytes({value!r})"
    for special, word in ((DEVNULL, "null"), (PIPE, "capture"), (STDERR, "to_stderr"), (STDOUT, "to_stdout")):
        if value is special:
            return f"{name}_{word}()"
    if isinstance(value, Append):
        return f"{name}_append({value.path!r})"
    return f"{name}_{'path' if isinstance(value, str) else 'file'}({value!r})"


def _lines(expression: Expression) -> str:
    """Return a combination as a line for bash.

    Where an expression is unchecked inside of another one, `|| :` says that its failure is none.
    """
    if isinstance(expression, Pipe):
        return " | ".join(map(_part, expression.parts))
    if isinstance(expression, Sequence):
        # Both operators have the same precedence and bind to the left.
        following = zip(expression.conditions, expression.parts[1:], strict=True)
        after = [f" {'&&' if on_success else '||'} {_and_part(part)}" for on_success, part in following]
        return _and_part(expression.parts[0]) + "".join(after)
    if isinstance(expression, Tee):
        *others, last = expression.consumers
        words = "".join(f" >({line(item)})" for item in others)
        middle = f" | tee{words}" if others else ""
        # bash reads what is in >( ) only when it runs it: what no line can say stands before all.
        refused = [word for item in others for word in notes(item)]
        before = f"({' '.join(refused)}) " if refused else ""
        return f"{before}{_part(expression.source)}{middle} | {_part(last)}"
    assert isinstance(expression, Scoped)
    if expression.name == "unchecked":
        return line(expression.inner)
    shown = _redirected(expression)
    if not shown:
        return line(expression.inner)
    # A command's own redirections are the inner ones.
    text, unchecked = _checked_line(expression.inner)
    return f"( {text} || : ) {shown}" if unchecked else f"( {text} ) {shown}"


def _redirected(expression: Scoped) -> str:
    """Return the redirection as a shell has it; "" for what it has no word for."""
    if expression.name == "swap":
        return _SWAP
    if expression.name not in _SIGNS:
        return ""
    return redirection(expression.value, *_SIGNS[expression.name])


def _part(expression: Expression) -> str:
    """Return a part of a pipe."""
    text, unchecked = _checked_line(expression)
    if unchecked:
        return f"( {text} || : )"
    return f"( {text} )" if _needs_shell(expression) or isinstance(_bare(expression), (Sequence, Tee)) else text


def _and_part(expression: Expression) -> str:
    """Return a part of a sequence."""
    text, unchecked = _checked_line(expression)
    if unchecked:
        return f"( {text} || : )"
    return f"( {text} )" if _needs_shell(expression) or isinstance(_bare(expression), (Sequence, Scoped)) else text


def _bare(expression: Expression) -> Expression:
    """Return it without what the line does not show."""
    while isinstance(expression, Scoped) and not _redirected(expression):
        expression = expression.inner
    return expression


def _checked_line(expression: Expression) -> tuple[str, bool]:
    """Return its line, and whether a failure of it is none, which the line does not show."""
    bare = _bare(expression)
    text = line(bare)
    unchecked = isinstance(bare, Command) and "check" in bare._options.values
    while expression is not bare:
        assert isinstance(expression, Scoped)
        unchecked = unchecked or expression.name == "unchecked"
        expression = expression.inner
    if unchecked and isinstance(bare, (Sequence, Pipe)):
        text = f"( {text} )"
    return text, unchecked


def _needs_shell(expression: Expression) -> bool:
    return isinstance(expression, Command) and "cwd" in expression._options.values
