"""The rules of the house that a machine can check: the contract of the Lua files, the floors, the twins, the data
model, the reference, the typed interface, the files that are named, and what the wheel holds."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from servers import binaries, start_server

import distcache
from distcache.config import ContentOptions, SmartOptions
from distcache.keys import Partition
from distcache.script import Script, expand, folder, slots
from distcache.smart.single_flight import FlightOptions

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "distcache"
LUA = folder()
SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua"))
INCLUDES = sorted(path.stem for path in (LUA / "include").glob("*.lua"))
SOURCES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def source_of(name):
    return (LUA / f"{name}.lua").read_text(encoding="utf-8")


def include_of(name):
    return (LUA / "include" / f"{name}.lua").read_text(encoding="utf-8")


def without_comments(lua):
    return re.sub(r"--(?!@include).*", "", lua)


# the contract of the Lua files

SLOT = re.compile(
    r"^local \w+\s*= (?:tonumber\()?(?:KEYS|ARGV)\[\d+\]\)?\s+-- \S|^local (\w+), \1_at\s*= ARGV, \d+\s+-- \S"
)
INCLUDE = re.compile(r"^ *--@include (\w+)$", re.MULTILINE)


def constructions():
    """(name, keywords, file) of every Script(...) in the package."""
    return [
        (node.args[0].value, {key.arg: key.value.value for key in node.keywords}, path)
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Script"
    ]


def test_every_lua_file_is_one_script_of_the_package():
    assert sorted(name for name, _keywords, _path in constructions()) == SCRIPTS


def test_every_script_has_exactly_one_op():
    """One place binds it; what else it can do is said by arguments."""
    for path, tree in SOURCES.items():
        constants = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(getattr(node.value, "func", None), "id", None) == "Script"
            for target in node.targets
        ]
        text = path.read_text(encoding="utf-8")
        for constant in constants:
            assert len(re.findall(rf"\b{constant}\b(?!\")", text)) == 1 + len(uses(tree, constant)), constant
            binds = [node for node in uses(tree, constant) if node in {"bind", "starting"}]
            assert len(binds) + plain_ops(tree, constant) == 1, f"{path.name}: {constant} is bound {binds}"


def uses(tree, constant):
    """How a constant is used: the attribute taken of it, or '' where it stands alone."""
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    names = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == constant and isinstance(node.ctx, ast.Load)
    ]
    return [getattr(parents[id(node)], "attr", "") for node in names]


def plain_ops(tree, constant):
    """Op(CONSTANT, (its only slot,), ...) without a bind."""
    return sum(
        isinstance(node, ast.Call)
        and getattr(node.func, "id", None) == "Op"
        and getattr(node.args[0], "id", None) == constant
        and isinstance(node.args[1], ast.Tuple)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_begins_with_what_it_does(name):
    assert source_of(name).startswith("-- ")


HANDED = re.compile(r"^local (?:g|new) = \{.*?^\}", re.MULTILINE | re.DOTALL)
"""A table that names slots for the functions of the includes; it does not read them, what uses its fields does."""


def reads(name):
    """The slots that a script reads by their names, or that are read as fields of `g` or `new`."""
    own_text, whole = without_comments(source_of(name)), without_comments(expand(source_of(name)))
    keys, args, tail = slots(expand(source_of(name)), name)
    declarations = r"^local \w+\s*= .*\b(KEYS|ARGV)\[.*$|^local (\w+), \2_at\s*= ARGV.*$"
    fields = re.findall(r"(\w+) = (\w+)", "".join(HANDED.findall(whole)))
    body = HANDED.sub("", re.sub(declarations, "", own_text, flags=re.MULTILINE))
    whole = HANDED.sub("", whole)
    found = set()
    for slot in [*keys, *args, *([tail, f"{tail}_at"] if tail else [])]:
        used = [field for field, value in fields if value == slot]
        if re.search(rf"(?<![\w.]){slot}\b", body) or any(re.search(rf"\b(?:g|new)\.{one}\b", whole) for one in used):
            found.add(slot)
    return found


READ = {name: reads(name) for name in SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_slot_is_read(name):
    keys, args, tail = own(name)
    for slot in [*keys, *args, *([tail, f"{tail}_at"] if tail else [])]:
        assert slot in READ[name], f"{name}: the slot {slot} is never read"


def declared(name):
    """The includes of a script that declare slots."""
    return [one for one in INCLUDE.findall(source_of(name)) if one in DECLARING]


def own(name):
    """The slots that a script declares beside those of its includes."""
    keys, args, tail = slots(expand(source_of(name)), name)
    taken = {slot for one in declared(name) for slot in declared_slots(one)}
    return [key for key in keys if key not in taken], [arg for arg in args if arg not in taken], tail


DECLARING = [one for one in INCLUDES if re.search(r"\b(KEYS|ARGV)\b", without_comments(include_of(one)))]


@pytest.mark.parametrize("include", DECLARING)
def test_every_slot_of_an_include_is_read_by_some_script(include):
    users = [name for name in SCRIPTS if include in declared(name)]
    for slot in declared_slots(include):
        assert any(slot in READ[name] for name in users), f"{include}: the slot {slot} is never read"


def declared_slots(include):
    """An include's slots; its numbers may go on where another include's end."""
    return re.findall(r"^local (\w+)\s*= .*\b(?:KEYS|ARGV)\[", include_of(include), re.MULTILINE)


@pytest.mark.parametrize("name", [*SCRIPTS, *(f"include/{one}" for one in INCLUDES)])
def test_slots_stand_in_the_preamble_only(name):
    """Comments, slots and includes that declare slots; below the first other line neither KEYS nor ARGV."""
    below = False
    for line in source_of(name).splitlines():
        include = INCLUDE.match(line)
        if SLOT.match(line) or (include and include[1] in DECLARING):
            assert not below, f"{name}: {line!r} stands below the preamble"
        elif include or (line and not line.startswith("--")):
            below = True
            assert not re.search(r"\b(KEYS|ARGV)\b", re.sub(r"--.*", "", line)), f"{name}: {line!r}"


def test_every_include_is_used_and_there():
    used, pending = set(), [source_of(name) for name in SCRIPTS]
    while pending:
        for name in INCLUDE.findall(pending.pop()):
            if name not in used:
                used.add(name)
                pending.append(include_of(name))
    assert sorted(used) == INCLUDES


def test_an_indented_include_is_known_in_its_block_only():
    one, block = "--@include clock\n", "do\n  --@include clock\nend\n"
    assert expand(one + one).count("local function clock()") == 1
    assert expand(one + block).count("local function clock()") == 1
    assert expand(block + block + one).count("local function clock()") == 3


WRITES = {
    *("APPEND", "COPY", "DECR", "DEL", "EXPIRE", "FLUSHALL", "FLUSHDB", "GETDEL", "GETEX", "GETSET", "HDEL"),
    *("HINCRBY", "HINCRBYFLOAT", "HMSET", "HSET", "HSETNX", "INCR", "INCRBY", "LMOVE", "LPOP", "LPUSH", "LREM"),
    *("LPUSHX", "LSET", "LTRIM", "MSET", "PERSIST", "PEXPIRE", "PEXPIREAT", "PSETEX", "PUBLISH", "RENAME", "RPOP"),
    *("RPUSH", "SADD", "SET", "SETEX", "SETNX", "SMOVE", "SPOP", "SPUBLISH", "SREM", "UNLINK", "XACK", "XADD"),
    *("XAUTOCLAIM", "XCLAIM", "XDEL", "XGROUP", "XREADGROUP", "XTRIM", "ZADD", "ZINCRBY", "ZPOPMAX", "ZPOPMIN"),
    *("ZRANGESTORE", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZUNIONSTORE"),
}
READS = {
    *("EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN", "HSTRLEN", "HVALS"),
    *("LINDEX", "LLEN", "LRANGE", "MGET", "PTTL", "SCARD", "SISMEMBER", "SMEMBERS", "SRANDMEMBER", "STRLEN"),
    *("TIME", "TTL", "TYPE", "XINFO", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "ZCARD", "ZCOUNT"),
    *("ZLEXCOUNT", "ZMSCORE", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE", "ZRANK", "ZREVRANGE", "ZREVRANGEBYLEX"),
    *("ZREVRANGEBYSCORE", "ZSCAN", "ZSCORE"),
}


def commands(name):
    """Every command a script may send, however far down the includes it stands."""
    whole = without_comments(expand(source_of(name)))
    calls = re.findall(r"redis\.p?call\(\s*('?\w+'?)", whole)
    assert all(call.startswith("'") for call in calls), f"{name} computes a command's name"
    return {call.strip("'") for call in calls}


@pytest.mark.parametrize(("name", "keywords"), [(name, keywords) for name, keywords, _path in constructions()])
def test_a_script_writes_if_and_only_if_it_says_so(name, keywords):
    unknown = commands(name) - WRITES - READS
    assert not unknown, f"{name}: say whether {unknown} writes"
    assert bool(commands(name) & WRITES) == keywords.get("writes", True)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_clock_is_asked_once(name):
    whole = without_comments(expand(source_of(name)))
    assert whole.count("'TIME'") <= 1
    assert len(re.findall(r"(?<!function )\bclock\(\)", whole)) <= 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_variable_is_local(name):
    """An assignment to a name that no `local`, `for` or parameter list declares makes a global."""
    whole = without_comments(expand(source_of(name)))
    whole = re.sub(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", "''", whole)
    whole = re.sub(r",\n\s+", ", ", whole)  # a list goes on
    declared = set(re.findall(r"\bfunction (\w+)", whole))
    for names in re.findall(
        r"\blocal (?!function)([\w, ]+)|\bfor ([\w, ]+?) (?:=|in)\b|\bfunction ?\w*\(([\w, ]*)\)", whole
    ):
        declared.update(name.strip() for group in names for name in group.split(","))
    assert not re.search(r"^\s*function ", whole, re.MULTILINE), "a function that is not local"
    depth, outside = 0, []
    for line in whole.splitlines():  # assignments stand outside of table constructors and calls
        if depth == 0 and (match := re.match(r"\s*(?:if .* then )?([a-z_]\w*(?:, ?[a-z_]\w*)*) = ", line)):
            outside += [name.strip() for name in match[1].split(",")]
        depth += sum(line.count(one) for one in "({") - sum(line.count(one) for one in ")}")
    assert set(outside) <= declared


def test_unknown_and_missing_slots_are_refused():
    script, part = Script("smart_touch"), Partition("n", 0, 8)
    given = {"id": "1", "key": "k", "ttl_ms": 5}
    assert script.bind(part, **given) == (part.score, part.usage, part.deadline, part.entries, "8", "1", "k", 5)
    assert script.bind(part, **given, score="mine")[0] == "mine"
    for wrong, name in (({**given, "other": ""}, "other"), ({"id": "1", "key": "k"}, "ttl_ms"), ({}, "id")):
        with pytest.raises(TypeError, match=rf"smart_touch: .*'{name}'"):
            script.bind(part, **wrong)


# floors

FLOORS = {
    "distcache.errors": 1,
    "distcache.keys": 1,
    "distcache.codec": 1,
    "distcache.config": 1,
    "distcache.script": 1,
    "distcache.op": 1,
    "distcache.near": 1,
    "distcache.use_log": 1,
    "distcache.policies": 1,
    "distcache.policy_base": 1,
    "distcache.acl": 2,
    "distcache.replay": 2,
    "distcache.shared": 2,
    "distcache.touches": 2,
    "distcache.smart": 2,
    "distcache.content": 2,
    "distcache.warmup": 2,
    "distcache.engine": 3,
    "distcache.executor": 3,
    "distcache.client": 4,
    "distcache.nearside": 4,
    "distcache.smart.cache": 4,
    "distcache.smart.flying": 4,
    "distcache.smart.memoize": 4,
    "distcache.smart.nearside": 4,
    "distcache.smart.pilot": 4,
    "distcache.smart.request": 4,
    "distcache.content.cache": 4,
    "distcache.warmup.heart": 4,
    "distcache.warmup.local": 4,
    "distcache.warmup.pools": 4,
    "distcache.warmup.surface": 4,
    "distcache.warmup.warmer": 4,
    "distcache.warmup.worker": 4,
    "distcache": 4,
    "distcache.__main__": 5,
    "distcache.cli": 5,
    "distcache.demo": 5,
    "distcache.server": 5,
}
"""By the longest name that fits. A new module in the top folder is given a floor here."""

OUTER = {"redis", "hiredis", "fakeredis"}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module):
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (found := FLOORS.get(".".join(parts[:length]))) and (length > 1 or len(parts) == 1):
            return found
    raise AssertionError(f"{module} has no floor; give it one in FLOORS")


def imports(path, tree):
    """The modules that a file imports, in functions and for types too."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.append(whole if (ROOT / (whole.replace(".", "/") + ".py")).exists() else node.module)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_point_downward(path):
    here = floor(module_of(path))
    for name in imports(path, SOURCES[path]):
        if name.split(".")[0] == "distcache":
            assert floor(name) <= here, f"{module_of(path)} (floor {here}) imports {name} (floor {floor(name)})"
        if name.split(".")[0] in OUTER:
            assert module_of(path).startswith("distcache.executor."), f"{module_of(path)} imports {name}"


@pytest.mark.parametrize("path", [path for path in SOURCES if floor(module_of(path)) <= 2], ids=module_of)
def test_the_pure_floors_neither_block_nor_await(path):
    """No coroutine, no sleep, no socket, no thread."""
    tree = SOURCES[path]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor)]
    assert not {"asyncio", "threading", "subprocess", "select"} & {name.split(".")[0] for name in imports(path, tree)}


# twins


def twins():
    for module in pkgutil.walk_packages([str(PACKAGE)], "distcache."):
        if floor(module.name) == 4:
            classes = vars(importlib.import_module(module.name))
            for name, cls in classes.items():
                if f"Async{name}" in classes and isinstance(cls, type) and cls.__module__ == module.name:
                    yield cls, classes[f"Async{name}"]


TWINS = list(twins())


def public(cls):
    found = {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}
    found["__init__"] = cls.__init__
    return {name: member for name, member in found.items() if callable(member)}


def shape(function):
    """Names, kinds, defaults and types of the parameters; a callback may be async for one twin only."""
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    types = {one.name: str(one.annotation).replace("Async", "") for one in parameters}
    types.update((name, "") for name, kind in types.items() if "Callable" in kind)
    return [(one.name, one.kind, one.default, types[one.name]) for one in parameters]


def test_there_are_twins():
    assert {cls.__name__ for cls, _twin in TWINS} >= {"SmartCache", "ContentHashCache"}


@pytest.mark.parametrize(("cls", "twin"), TWINS, ids=lambda cls: cls.__name__)
def test_twins_have_the_same_methods(cls, twin):
    blocking, awaited = public(cls), public(twin)
    assert {name.replace("aclose", "close") for name in awaited} == set(blocking)


@pytest.mark.parametrize(("cls", "twin"), TWINS, ids=lambda cls: cls.__name__)
def test_twins_take_the_same_parameters(cls, twin):
    for name, function in public(cls).items():
        other = public(twin)["aclose" if name == "close" else name]
        assert shape(function) == shape(other), name


@pytest.mark.parametrize(("cls", "twin"), TWINS, ids=lambda cls: cls.__name__)
def test_twins_return_the_same(cls, twin):
    """The same type, awaited or not; an iterator is an async one, a decorator makes an async function."""
    for name, function in public(cls).items():
        other = public(twin)["aclose" if name == "close" else name]
        expected = str(inspect.signature(function).return_annotation).replace(cls.__name__, twin.__name__)
        got = str(inspect.signature(other).return_annotation)
        if got.startswith("Callable[") and expected.startswith("Callable["):
            continue
        assert got.replace("AsyncIterator", "Iterator") == expected, name


# the data model


def test_the_data_model_describes_every_key():
    text = (ROOT / "docs" / "data-model.md").read_text(encoding="utf-8")
    part = Partition("n", 0)
    names = {value.removeprefix(part.tag).decode() for value in vars(part).values() if isinstance(value, bytes)}
    names.discard("")
    assert not [name for name in names if f"`{name}`" not in text]
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    described = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert described >= names
    assert not described - names, "the page describes keys that do not exist"


# the reference

REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", REFERENCE, re.MULTILINE))
DESCRIBED = {
    "SmartCache, AsyncSmartCache": distcache.SmartCache,
    "ContentHashCache, AsyncContentHashCache": distcache.ContentHashCache,
    "Workers": distcache.Worker,
}


def written(function):
    """A call's parameters as the page writes them: without types."""
    signature = inspect.signature(function)
    kept = [one.replace(annotation=one.empty) for name, one in signature.parameters.items() if name != "self"]
    return str(signature.replace(parameters=kept, return_annotation=signature.empty)).replace("'", '"')


@pytest.mark.parametrize("name", [name for name in distcache.__all__ if name != "__version__"])
def test_the_reference_names_what_there_is(name):
    assert re.search(rf"\b{name}\b", REFERENCE)


@pytest.mark.parametrize("part", DESCRIBED)
def test_the_reference_shows_each_call_as_it_is(part):
    cls = DESCRIBED[part]
    calls = {name: written(function) for name, function in public(cls).items() if name != "__init__"}
    shown = dict(re.findall(r"`(\w+)(\([^`]*\))`", PARTS[part]))
    assert {name: shown.get(name) for name in [*calls, cls.__name__]} == {**calls, cls.__name__: written(cls)}


@pytest.mark.parametrize("options", [SmartOptions, ContentOptions, FlightOptions], ids=lambda options: options.__name__)
def test_the_reference_lists_each_option(options):
    part = PARTS["SmartCache, AsyncSmartCache" if options is FlightOptions else "Options of every cache"]
    assert not [name for name in options.__annotations__ if f"`{name}`" not in part]


# paths

FOLDERS = ("benchmarks", "distcache", "docs", "examples", "lua", "tests")
FILES = {
    *(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")),
    *(path.name for path in ROOT.glob("*.*")),
}
NAMED = re.compile(r"(?<![\w./*{}<>-])((?:[\w.-]+/)*[\w-]+\.(?:py|lua|md))\b")
INVENTED = {"lua/smart_rename.lua"}
"""The example of CONTRIBUTING.md."""


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.endswith((".py", ".lua", ".md"))))
def test_a_file_that_is_named_exists(name):
    """By its path from the top, or the end of it; the tests of caches name files of their users by themselves."""
    named = set(NAMED.findall((ROOT / name).read_text(encoding="utf-8"))) - INVENTED
    if name.startswith("tests/"):
        named = {one for one in named if one.startswith(tuple(f"{folder}/" for folder in FOLDERS))}
    assert not {one for one in named if not any(f"/{path}".endswith(f"/{one}") for path in FILES)}


# types


def test_the_public_interface_is_typed():
    """`typing/api.py` uses it as a program would; it is checked and never run."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "typing" / "api.py")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_interface_that_is_checked_is_all_of_it():
    used = (ROOT / "tests" / "typing" / "api.py").read_text(encoding="utf-8")
    assert not [name for name in distcache.__all__ if not re.search(rf"\b{name}\b", used)]
    for cls, twin in TWINS:
        if cls.__name__ in distcache.__all__:
            for name in [*public(cls), *public(twin)]:
                assert re.search(rf"\.{name}\(", used) or name == "__init__", f"{cls.__name__}.{name}"


# the wheel

PROGRAM = """
import sys
import distcache
assert distcache.__file__.startswith(sys.argv[1]), distcache.__file__
with distcache.SmartCache(url=sys.argv[2], timeout_s=10, on_error="raise") as cache:
    cache.put("a", "from the wheel", "h")
    print(cache.get("a"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from this checkout without a network."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(place.glob("*.whl"))


def test_the_wheel_holds_all_and_only_what_runs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "distcache/py.typed" in names
    lua = {f"distcache/lua/{path.relative_to(LUA).as_posix()}" for path in LUA.rglob("*.lua")}
    assert lua <= names
    assert {path.relative_to(ROOT).as_posix() for path in SOURCES} <= names
    outside = {name for name in names if not re.match(r"distcache/|distcache-[\w.]+\.dist-info/", name)}
    assert not outside
    assert not [name for name in names if name.endswith((".pyc", ".orig", "~"))]


@pytest.mark.parametrize("name", [*sorted(binaries())[-1:], *(["fakeredis"] if not binaries() else [])])
def test_the_installed_wheel_runs_its_scripts(wheel, tmp_path, name):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")

    def run(url):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "site"), url]
        env = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.stdout == "from the wheel\n", done.stderr

    if name == "fakeredis":
        run("fakeredis://wheel")
    else:
        with start_server(binaries()[name]) as server:
            run(server.url)
