"""Ten and more wrong inputs for each command: each is answered with what, why and fix, and changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from studio.cli.commands import COMMANDS
from studio.cli.main import main
from studio.cli.spec import Command

LONG = "x" * 6000

WRONG_FILTERS: list[tuple[list[str], int, str]] = [
    (["--only", "empt"], 2, "Did you mean 'empty'?"),
    (["--find", ""], 2, "It is empty"),
    (["--tag", "never-a-tag"], 3, "No caption has the tag 'never-a-tag'"),
    (["--tag", "carr"], 3, "Did you mean 'car'?"),
    (["--without", "never-a-tag"], 3, "No caption has the tag"),
    (["--author", "nobody"], 3, "No caption was written by 'nobody'"),
    (["--author", "persn"], 3, "Did you mean 'person'?"),
    (["--picture", "01_cra.png"], 3, "Did you mean '01_car.png'?"),
    (["--too-long=5"], 2, "--too-long takes no value"),
    (["--too-lang"], 2, "Did you mean '--too-long'?"),
    (["--only", "empty", "--only", "approved"], 2, "given 2 times"),
]
NARROWED = (
    "captions list", "captions stats", "captions replace", "captions prepend", "captions append", "captions remove-tag",
    "captions rename-tag", "captions merge-tags", "captions sort", "captions dedupe", "captions underscores", "captions add-trigger",
)  # fmt: skip


# command -> wrong lines: (words after the command, exit code, words that the answer must hold). @NAME are the files below.
OWN: dict[str, list[tuple[list[str], int, str]]] = {
    "rate": [
        (["--rating", "4"], 2, "No picture was named"), (["nope"], 3, "no picture 'nope'"), (["x", "--rating", "6"], 2, "too large"), (["x", "--tag", "ugly"], 2, "Use one of"),
        (["x", "--tag", "blury"], 2, "Did you mean 'blurry'?"), (["x", "--note", ""], 2, "empty"), (["--grid", "nope"], 3, "no grid called"),
    ],
    "report": [
        ([], 2, "OUT"), (["@notes"], 2, "there already"), (["@zip"], 2, "ending"), (["@missing"], 2, "ending"), ([""], 2, "empty"),
        (["@missing", "--grid", "nope"], 3, "no grid called"),
    ],
    "blind": [
        ([], 2, "FIRST"), (["a"], 2, "SECOND"), (["a", "b"], 3, "no checkpoint 'a'"), (["a", "b", "--answer", "both"], 2, "Use one of"), (["a", "b", "--weight", "9"], 2, "too large"),
    ],
    "diagnose": [
        (["--symptom", "ugly"], 2, "no symptom called 'ugly'"), (["--symptom", "36"], 2, "no symptom called '36'"), (["--fix", "burnt,burnt"], 2, "there twice"),
        (["--fix", "ugly"], 2, "no symptom called"), (["--fix", "watermark"], 2, "No setting would change"), (["--undo"], 3, "No run was prepared"),
        (["--undo", "--fix", "burnt"], 2, "goes alone"), (["--grid", "nope"], 3, "no grid called 'nope'"), (["--run", "nope"], 3, "no run called"),
        (["--fix", "burnt", "--symptom", "burnt"], 2, "does not go with"),
    ],
    "lineage": [
        (["nope"], 3, "no run called 'nope'"), (["--against", "latest"], 2, "--against needs a run"), (["latest", "--against", "nope"], 3, "no run called 'nope'"),
        (["latest", "latest"], 2, "not expected here"),
    ],
    "library copy": [
        ([], 2, "LORA"), (["nope"], 2, "FOLDER"), (["nope", "@folder"], 3, "no LoRA called"), ([""], 2, "empty"), (["nope", ""], 2, "empty"),
        (["nope", "@folder", "--link=yes"], 2, "takes no value"), (["nope", "@folder", "--dry"], 2, "Did you mean '--dry-run'?"),
    ],
    "library take-back": [
        ([], 2, "LORA"), (["nope"], 2, "FOLDER"), (["nope", "@folder"], 3, "no LoRA called"), ([""], 2, "empty"), (["nope", "@folder", "--link"], 2, "no option"),
    ],
    "library add": [
        ([], 2, "FILE"), (["@lora"], 2, "--kind"), (["@lora", "--kind", "stile"], 2, "Did you mean 'style'?"), (["@notes", "--kind", "style"], 2, "not a .safetensors"),
        (["@missing", "--kind", "style"], 2, "Nothing is there"), (["@junk", "--kind", "style"], 2, "junk.safetensors"), (["@lora", "--kind", "style", "--weight", "0"], 2, "between 0.1 and 1.5"),
        (["@lora", "--kind", "style", "--weight", "5"], 2, "too large"), (["@lora", "--kind", "style", "--base-model", "nope"], 3, "nope"),
        (["@lora", "--kind", "style", "--on-clash", "keep"], 2, "not one of the choices"), (["@lora", "--kind", "style", "--preview", "@notes"], 2, "opened as a picture"),
        (["@lora", "--kind", "style", "--leave-out", "names"], 2, "not one of the choices"), (["@lora", "--kind", "style", "--leave-out", "tags,tags"], 2, "there twice"),
    ],
    "library compare": [
        ([], 2, "LORA"), (["a"], 3, "no LoRA called 'a'"), (["a", "b"], 3, "no LoRA called 'a'"), ([""], 2, "empty"), (["a", "b", "--diff"], 2, "Did you mean '--differences'?"),
    ],
    "library evaluate": [
        ([], 2, "LORA"), (["nope"], 3, "no LoRA called"), (["nope", "--weights", "9"], 2, "too large"), (["nope", "--weights", "a"], 2, "not a number"),
        (["nope", "--renderer", "forge"], 2, "not one of the choices"), (["nope", "x"], 2, "not expected here"), (["nope", "--plan=1"], 2, "takes no value"),
    ],
    "library places": [
        (["@missing"], 2, "Nothing is there"), (["@notes"], 3, "no folder at"), (["--name", "x"], 2, "FOLDER is missing"), (["--link"], 2, "FOLDER is missing"),
        (["--forget", "nope"], 3, "no place called 'nope'"), (["@folder", "--forget", "x"], 2, "goes alone"), (["@folder", "--name", ""], 2, "empty"), ([""], 2, "empty"),
    ],
    "library publish": [
        ([], 2, "LORA"), (["nope"], 2, "REPO"), (["nope", "blue"], 2, "ACCOUNT/NAME"), (["nope", "ann/blue--x"], 2, "ACCOUNT/NAME"), (["nope", "ann/blue/x"], 2, "ACCOUNT/NAME"),
        (["nope", "ann/blue"], 3, "no LoRA called"), (["nope", "ann/blue", "--pictures", "7"], 2, "too large"), (["nope", "ann/blue", "--licence", ""], 2, "empty"),
        (["nope", "ann/blue", "--private"], 2, "no option"), (["nope", "ann/blue", "--leave-out", "all"], 2, "not one of the choices"), (["nope", "ann/blue", "--yes=1"], 2, "takes no value"),
    ],
    "lora metadata": [
        ([], 2, "FILE"), (["@notes"], 2, "not a .safetensors"), (["@junk", "--out", "x.txt"], 2, "no name for a LoRA"), (["@lora", "--out", "@lora"], 2, "there already"),
        (["@lora", "--leave-out", "tag"], 2, "Did you mean 'tags'?"), (["@lora", "--leave-out", ""], 2, "empty"), (["@missing"], 2, "Nothing is there"), (["@lora", "--remember=1"], 2, "takes no value"),
    ],
    "lora info": [
        ([], 2, "FILE"), (["@missing"], 2, "Nothing is there"), (["@notes"], 2, "not a .safetensors file"), (["@folder"], 2, "not a .safetensors"),
        (["@junk"], 2, "junk.safetensors"), ([""], 2, "empty"), (["@lora", "@lora"], 2, "not expected here"),
    ],
    "lora check": [
        ([], 2, "FILE"), (["@missing"], 2, "Nothing is there"), (["@junk"], 2, "junk.safetensors"), (["@notes"], 2, "not a .safetensors file"),
    ],
    "lora resize": [
        (["@lora"], 2, "--rank or --keep"), (["@lora", "--rank", "0"], 2, "too small"), (["@lora", "--rank", "5000"], 2, "too large"),
        (["@lora", "--rank", "4096"], 2, "a larger one adds nothing"), (["@lora", "--keep", "1.2"], 2, "too large"),
        (["@lora", "--keep", "0,9"], 2, "with a point"), (["@lora", "--rank", "2", "--type", "fp8"], 2, "Use one of"),
        (["@lora", "--keep", "0.9", "--out", "@notes"], 2, "no name for a LoRA"), (["@lora", "--keep", "0.9", "--out", "@lora"], 2, "there already"),
        (["@junk", "--rank", "2"], 2, "junk.safetensors"),
    ],
    "lora merge": [
        ([], 2, "FILE:WEIGHT"), (["@lora"], 2, "Name 2 to 16"), (["@lora", "@lora"], 2, "named twice"), (["@lora", "@missing"], 2, "Nothing is there"),
        (["@lora", "@notes"], 2, "not a .safetensors"), (["x.safetensors:9"], 2, ""), (["@lora", "@lora", "--rank", "0"], 2, "too small"),
    ],
    "lora convert": [
        (["@lora"], 2, "--names or --type"), (["@lora", "--names", "koyha"], 2, "Did you mean 'kohya'?"), (["@lora", "--names", "kohya"], 2, "these names already"),
        (["@lora", "--type", "int8"], 2, "Use one of"), (["@junk", "--type", "bf16"], 2, "junk.safetensors"),
    ],
    "run-again": [
        (["nope"], 3, "no run 'nope'"), (["a", "b"], 2, "not expected here"), (["--wait", "--detach"], 2, "opposite"), (["-p", "empty"], 3, "has no run yet"),
    ],
    "queue list": [(["everything"], 2, "not expected here"), (["--rank", "8"], 2, "--rank"), (["-p"], 2, "-p")],
    "queue add": [
        (["--rank", "0"], 2, "from 1 to 512"), (["--rank", "many"], 2, ""), (["--rnk", "8"], 2, "Did you mean '--rank'?"), (["now"], 2, "not expected here"),
        (["--epochs", "-1"], 2, ""), (["--optimizer", "adam"], 2, "adamw"), (["-p", "nobody"], 3, "no project called 'nobody'"),
    ],
    "queue move": [
        ([], 2, "NAME"), (["q-1"], 2, "PLACE"), (["q-1", "0"], 2, "too small"), (["q-1", "first"], 2, "not a whole number"), (["q-1", "1"], 3, "nothing called 'q-1'"),
        (["q-1", "1", "2"], 2, "not expected here"), ([LONG, "1"], 2, ""), (["", "1"], 2, "empty"), (["q-1", "1.5"], 2, "not a whole number"), (["q-1", "9999"], 2, "too large"),
    ],
    "queue remove": [
        ([], 2, "NAME"), (["q-1"], 3, "nothing called 'q-1'"), (["a", "b"], 2, "not expected here"), ([""], 2, "empty"), ([LONG], 2, ""),
        (["../x"], 3, "nothing called"), (["--all"], 2, "--all"),
    ],
    "estimate": [
        (["--rank", "0"], 2, "from 1 to 512"), (["--batch-size", "0"], 2, "from 1 to 256"), (["--resolution", "wide"], 2, "whole number from 32"), (["flux"], 2, "not expected here"),
        (["--precison", "bf16"], 2, "Did you mean '--precision'?"), (["--precision", "fp4"], 2, "bf16"), (["-p", "nobody"], 3, "no project called 'nobody'"),
    ],
    "duplicates": [
        (["--keep"], 2, "--keep has no value"),
        (["--keep", ""], 2, "empty"),
        (["--keep", "01_car.png"], 3, "among the duplicates"),
        (["--apart", "nope.png"], 3, "among the duplicates"),
        (["--keep", "a.png", "--apart", "b.png"], 2, "They decide different things"),
        (["--keep-best", "--keep", "a.png"], 2, "They decide different things"),
        (["--keepbest"], 2, "Did you mean"),
        (["01_car.png"], 2, "not expected here"),
        (["--keep", LONG], 2, "255"),
        (["--keep-best=all"], 2, "takes no value"),
    ],
    "deep-look": [
        (["-p", "empty"], 2, "no pictures to look at"),
        (["01_car.png"], 2, "not expected here"),
        (["--detatch"], 2, "Did you mean"),
        (["--detach=1"], 2, "takes no value"),
    ],
    "variety": [
        (["--keep", "0"], 2, "too small"),
        (["--keep", "-3"], 2, ""),
        (["--keep", "many"], 2, "not a whole number"),
        (["--keep", "2.5"], 2, "not a whole number"),
        (["--keep", "999"], 2, "cannot be chosen"),
        (["--keep", "99999999"], 2, "too large"),
        (["--keep"], 2, "--keep has no value"),
        (["-p", "empty"], 2, "no pictures to choose from"),
        (["25"], 2, "not expected here"),
        (["--aply"], 2, "Did you mean '--apply'?"),
    ],
    "buckets": [
        (["--resolution", "31"], 2, "too small"),
        (["--resolution", "5000"], 2, "too large"),
        (["--resolution", "1021"], 2, "resolution"),
        (["--resolution", "1024px"], 2, "not a whole number"),
        (["--step", "7"], 2, "too small"),
        (["--step", "12"], 2, "bucket_step"),
        (["--step", "zero"], 2, "not a whole number"),
        (["--batch-size", "0"], 2, "too small"),
        (["--batch", "4"], 2, "Did you mean '--batch-size'?"),
        (["1024"], 2, "not expected here"),
    ],
    "regularisation": [
        (["nope.png"], 3, "no picture called 'nope.png'"),
        (["nope_*"], 3, "no picture called 'nope_*'"),
        (["01_caar.png"], 3, "Did you mean '01_car.png'?"),
        (["01_car.png", "gone.png"], 3, "no picture called 'gone.png'"),
        (["--off"], 2, "without a picture"),
        (["--of", "01_car.png"], 2, "Did you mean '--off'?"),
        (["../project.yaml"], 3, "no picture called"),
        ([""], 3, "no picture called"),
        (["-p", "empty", "*"], 3, "no picture called"),
        ([LONG], 3, "no picture called"),
    ],
    "repeats": [
        (["01_car.png"], 2, "--times is missing"),
        (["--times", "3"], 2, "without a picture"),
        (["01_car.png", "--times", "0"], 2, "too small"),
        (["01_car.png", "--times", "1001"], 2, "too large"),
        (["01_car.png", "--times", "3x"], 2, "not a whole number"),
        (["01_car.png", "--times", "1.5"], 2, "not a whole number"),
        (["01_car.png", "--times"], 2, "--times has no value"),
        (["01_caar.png", "--times", "3"], 3, "Did you mean '01_car.png'?"),
        (["nope_*", "--times", "3"], 3, "no picture called"),
        (["01_car.png", "--time", "3"], 2, "Did you mean '--times'?"),
    ],
    "new": [
        ([], 2, "NAME is missing"),
        (["Boats"], 2, "--kind is missing"),
        (["Boats", "--kind", "stile"], 2, "Did you mean 'style'?"),
        (["!!!", "--kind", "style"], 2, "no letter or digit"),
        (["", "--kind", "style"], 2, "It is empty"),
        (["Boats", "--kind", "style", "--trigger", "a,b"], 2, "cannot be a trigger word"),
        (["Boats", "--kind", "style", "--trigger", "dog"], 2, "everyday word"),
        (["Boats", "--kind", "style", "--trigger", "x" * 50], 2, "longer than 40"),
        (["Boats", "--kind", "style", "--base-model", "poket"], 3, "Did you mean 'pocket'?"),
        (["Boats", "Ships", "--kind", "style"], 2, "'Ships' is not expected here"),
        (["Boats", "--name", "Ships", "--kind", "style"], 2, "Two names"),
        (["Boats", "--kind", "style", "--kind", "object"], 2, "given 2 times"),
        (["x" * 90, "--kind", "style"], 2, "90 characters"),
    ],
    "open": [
        (["inc"], 3, "Did you mean 'ink'?"),
        (["ink", "empty"], 2, "'empty' is not expected here"),
        (["ink", "-p", "empty"], 2, "Two projects"),
        (["broken"], 2, "project.yaml"),
        (["../../etc"], 3, "no project called"),
    ],
    "edit": [
        ([], 2, "Nothing to change"),
        (["--trigger", "a,b"], 2, "cannot be a trigger word"),
        (["--trigger", "cat"], 2, "everyday word"),
        (["--base-model", "poket"], 3, "Did you mean 'pocket'?"),
        (["--kind", "thing"], 2, "one of: character"),
        (["--name", ""], 2, "It is empty"),
        (["--name", "x" * 90], 2, "90 characters"),
        (["Boats"], 2, "'Boats' is not expected here"),
    ],
    "delete": [
        ([], 2, "SLUG is missing"),
        (["inc"], 3, "Did you mean 'ink'?"),
        (["../x"], 3, "no project called"),
        (["ink", "empty"], 2, "'empty' is not expected here"),
    ],
    "put-back": [(["nope"], 3, "in the trash"), (["a", "b"], 2, "'b' is not expected here")],
    "import": [
        ([], 2, "PATH is missing"),
        (["@missing"], 2, "Nothing is there"),
        ([""], 2, "It is empty"),
        (["@notes"], 2, "No picture"),
        (["@zip"], 2, "broken.zip"),
        (["@folder"], 2, "No picture"),
        (["@missing", "@missing2"], 2, "2 problems"),
        (["@typo"], 2, "Did you mean 'notes.md'?"),
        (["a\0b"], 2, "not a path"),
        (["http://example.com/a.zip"], 2, "https"),
        (["https://127.0.0.1/a.zip"], 2, "127.0.0.1"),
        (["ftp://example.com/a.zip"], 2, "https"),
        (["https://me:word@example.com/a.zip"], 2, "user name"),
    ],
    "discard": [
        (["nope.png"], 3, "no picture called 'nope.png'"),
        (["01_car.png"], 3, "among those set aside"),
        (["../x"], 3, "no picture"),
        ([""], 3, "no picture"),
        (["--yes=1"], 2, "takes no value"),
    ],
    "audit": [
        (["--fix", "trim"], 3, "'trim' is not among"),
        (["--writing=1"], 2, "takes no value"),
        (["--fix", "nope"], 3, "'nope' is not among"),
        (["--fix"], 2, "--fix has no value"),
        (["--fix", ""], 2, "It is empty"),
        (["--yes=1"], 2, "--yes takes no value"),
    ],
    "set-aside": [
        ([], 2, "PICTURE is missing"),
        (["nope.png"], 3, "no picture called 'nope.png'"),
        (["01_cra.png"], 3, "Did you mean '01_car.png'?"),
        (["nope.png", "never.png"], 3, "never.png"),
        (["01_car.png", "--reason", ""], 2, "It is empty"),
        (["01_car.png", "--reason", LONG], 2, "at most 200"),
        (["../01_car.png"], 3, "no picture called"),
    ],
    "restore": [(["nope.png"], 3, "no picture called 'nope.png'"), (["../x"], 3, "no picture")],
    "export-dataset": [
        ([], 2, "TARGET is missing"),
        ([""], 2, "It is empty"),
        (["a\0b"], 2, "not a path"),
        (["@notes"], 2, "exists already"),
        (["@zip"], 2, "exists already"),
        (["@home"], 2, "exists already"),
        (["@notes/inside"], 2, "cannot be made"),
        (["@missing", "@missing2"], 2, "is not expected here"),
        (["@missing", "--layout", "sideways"], 2, "Use one of: folders, flat"),
        (["@missing", "--layout"], 2, "--layout has no value"),
        (["@missing", "--own-repeats=2"], 2, "--own-repeats takes no value"),
        (["@missing", "-p", "empty"], 2, "no pictures to export"),
    ],
    "captions list": [
        (["--only", "empt"], 2, "Did you mean 'empty'?"),
        (["--limit", "0"], 2, "too small"),
        (["--limit", "ten"], 2, "not a whole number"),
        (["--limit", "1.5"], 2, "not a whole number"),
        (["--find", ""], 2, "It is empty"),
    ],
    "captions set": [
        ([], 2, "2 problems"),
        (["01_car.png"], 2, "TEXT is missing"),
        (["nope.png", "a boat"], 3, "no picture called 'nope.png'"),
        (["01_cra.png", "a car"], 3, "Did you mean '01_car.png'?"),
        (["01_car.png", "a", "car"], 2, "'car' is not expected here"),
        (["01_car.png", LONG], 2, "at most 5000"),
        (["", "a car"], 2, "It is empty"),
    ],
    "captions replace": [
        ([], 2, "2 problems"),
        (["car"], 2, "NEW is missing"),
        (["", "car"], 2, "It is empty"),
        (["car", "car"], 2, "the same"),
        (["(", "x", "--regex"], 2, "not a regular expression"),
        (["(a)", "\\9", "--regex"], 2, "not a regular expression"),
        (["a", "b", "c"], 2, "'c' is not expected here"),
        (["a", LONG], 2, "at most 5000"),
    ],
    "captions prepend": [([], 2, "TEXT is missing"), ([""], 2, "It is empty"), (["a", "b"], 2, "'b' is not"), ([LONG], 2, "6000")],
    "captions append": [([], 2, "TEXT is missing"), ([""], 2, "It is empty"), (["a", "b"], 2, "'b' is not"), ([LONG], 2, "6000")],
    "captions remove-tag": [([], 2, "TAG is missing"), ([""], 2, "It is empty"), ([","], 2, "needs a text"), (["a", "b"], 2, "'b' is not")],
    "captions rename-tag": [
        ([], 2, "2 problems"),
        (["car"], 2, "NEW is missing"),
        (["car", ""], 2, "It is empty"),
        ([",", "x"], 2, "needs a text"),
        (["car", ","], 2, "new name"),
    ],
    "captions approve": [(["nope.png"], 3, "no picture called 'nope.png'")],
    "captions merge-tags": [
        ([], 2, "TAG is missing"),
        (["car"], 2, "two tags or more"),
        (["car", "Car"], 2, "two tags or more"),
        (["car", ""], 2, "It is empty"),
        (["car", "bus", "--new", ""], 2, "It is empty"),
        (["car", "bus", "--new", ","], 2, "new name"),
        (["car", LONG], 2, "at most 500"),
    ],
    "captions underscores": [(["--back=1"], 2, "--back takes no value")],
    "captions history": [
        (["nope.png"], 3, "no picture called 'nope.png'"),
        (["01_cra.png"], 3, "Did you mean '01_car.png'?"),
        (["../01_car.png"], 3, "no picture called"),
        ([""], 2, "It is empty"),
        (["01_car.png", "--limit", "0"], 2, "too small"),
        (["01_car.png", "2"], 2, "'2' is not expected here"),
    ],
    "captions restore": [
        ([], 2, "2 problems"),
        (["01_car.png"], 2, "VERSION is missing"),
        (["01_car.png", "two"], 2, "not a whole number"),
        (["01_car.png", "0"], 2, "too small"),
        (["01_car.png", "99"], 3, "no version 99"),
        (["nope.png", "1"], 3, "no picture called 'nope.png'"),
        (["../01_car.png", "1"], 3, "no picture called"),
        (["01_car.png", "1", "2"], 2, "'2' is not expected here"),
    ],
    "autocaption set": [
        (["--engine", "taggr"], 2, "Did you mean 'tagger'?"),
        (["--mode", "overwrite"], 2, "replace"),
        (["--general", "1.2"], 2, "too large"),
        (["--general", "0,35"], 2, "decimal with a point"),
        (["--character", "nan"], 2, "not a finite number"),
        (["--batch", "0"], 2, "too small"),
        (["--resize", "lanczos"], 2, "bicubic"),
        (["--also", "person"], 2, "imported"),
        (["--at-once", "99"], 2, "too large"),
        (["--side", "10"], 2, "too small"),
        (["--key", "sk-secret"], 2, "auto"),
        (["--say", ""], 2, "not one of the choices"),
        (["--hint", LONG], 2, "at most 1000"),
        (["--picture-input", "a b"], 2, "picture"),
        (["--exclude", "a,,b"], 2, "One of them is empty"),
        (["--general", "2", "--batch", "x"], 2, "2 problems"),
    ],
    "autocaption models": [(["--service=1"], 2, "takes no value"), (["x"], 2, "'x' is not expected here")],
    "autocaption download": [
        ([], 2, "ID is missing"),
        (["wd-vit-v4"], 3, "no tagger called"),
        (["../../etc"], 3, "no tagger called"),
        ([""], 2, "It is empty"),
        (["wd-vit-v3", "wd-swinv2-v3"], 2, "is not expected here"),
    ],
    "autocaption samples": [([], 2, "not on this computer yet"), (["-p", "empty"], 2, "not on this computer"), (["x"], 2, "'x' is not")],
    "autocaption review": [
        (["01_car.png"], 2, "The verdict is missing"),
        (["--approve"], 2, "PICTURE is missing"),
        (["01_car.png", "--approve", "--skip"], 2, "do not go together"),
        (["01_car.png", "--adjust", ""], 2, "It is empty"),
        (["01_car.png", "02_bus.png", "--adjust", "x"], 2, "for one picture"),
        (["01_car.png", "--approve"], 3, "no samples yet"),
        (["01_car.png", "--adjust", LONG], 2, "at most 5000"),
        ([], 3, "no samples yet"),
    ],
    "autocaption run": [([], 2, "not on this computer yet"), (["nope.png"], 2, "not on this computer"), (["--yes=1"], 2, "no value")],
    "autocaption status": [(["x"], 2, "'x' is not expected here"), (["--engine"], 2, "no option --engine")],
    "models add": [
        ([], 2, "PATH is missing"),
        (["@missing"], 2, "Nothing is there"),
        (["@notes"], 2, "notes.md"),
        (["@folder"], 2, "model_index.json"),
        (["@lora"], 2, "is a LoRA"),
        (["@lora", "--title", ""], 2, "It is empty"),
        (["@lora", "--prediction", "flow"], 2, "not one of the choices"),
        (["@lora", "--t5xxl", "@missing"], 2, "Nothing is there"),
        (["@lora", "@notes"], 2, "is not expected here"),
    ],
    "models forget": [
        ([], 2, "ID is missing"),
        (["nope"], 3, "not a base model that you added"),
        (["pocket"], 3, "Shipped entries stay"),
        ([""], 2, "It is empty"),
        (["a", "b"], 2, "'b' is not expected here"),
    ],
    "models download": [
        ([], 2, "ID is missing"),
        (["sdxxl"], 3, "no base model called"),
        (["pocket"], 2, "cannot be downloaded here"),
        (["flux"], 2, "trained on rented computers"),
        (["../../etc"], 3, "no base model called"),
        ([""], 2, "It is empty"),
        (["sdxl", "sd15"], 2, "is not expected here"),
    ],
    "models remove": [
        ([], 2, "ID is missing"),
        (["sdxxl"], 3, "no base model called"),
        (["pocket"], 2, "was not downloaded by the studio"),
        (["sdxl"], 3, "Nothing of Stable Diffusion XL"),
        (["../x"], 3, "no base model called"),
        (["sdxl", "--yes=1"], 2, "takes no value"),
    ],
    "models inspect": [
        ([], 2, "PATH is missing"),
        (["@missing"], 2, "Nothing is there"),
        (["@notes"], 2, "is not a safetensors file"),
        (["@folder"], 2, "model_index.json"),
        (["@zip"], 2, "pickle"),
        ([""], 2, "It is empty"),
        (["@lora", "@notes"], 2, "is not expected here"),
    ],
    "setup sd-scripts": [
        ([], 6, "is not set up"),
        (["@missing"], 2, "There is no folder"),
        (["@folder"], 2, "train_network.py"),
        (["@notes"], 2, "is not a folder of sd-scripts"),
        ([""], 2, "It is empty"),
        (["--python", "python3"], 2, "goes with a folder"),
        (["@folder", "--forget"], 2, "takes no folder"),
        (["@folder", "--python", "@missing"], 2, "Nothing lies at"),
        (["@folder", "@notes"], 2, "is not expected here"),
        (["install", "--source", "http://example.com/x"], 2, "not https"),
        (["install", "--source", "@folder"], 2, "is not a folder of sd-scripts"),
        (["install", "--commit", "main"], 2, "is not a commit"),
        (["install", "--torch", "cu999"], 2, "no PyTorch build"),
        (["install", "--torch", "2.6.0"], 2, "torchvision is missing"),
        (["install", "--torch-index", "http://x"], 2, "not an index"),
        (["install", "--wheels", "@missing"], 2, "There is no folder"),
        (["install", "--offline"], 2, "a folder of packages is needed"),
        (["install", "--python", "@missing"], 2, "cannot be used for sd-scripts"),
        (["rollback"], 3, "no version to roll back"),
        (["check"], 6, "is not set up"),
        (["use"], 2, "The version is missing"),
        (["use", "nope"], 3, "no version 'nope'"),
        (["remove", "../../x"], 3, "no version"),
        (["rollback", "--torch", "cpu"], 2, "with install or update"),
        (["--commit", "48d368fa"], 2, "with install or update"),
    ],
    "explain": [
        ([], 2, "LOG is missing"),
        (["@missing"], 2, "cannot be read"),
        (["@folder"], 2, "cannot be read"),
        (["@notes"], 2, "is not a log"),
        (["@zip"], 2, "is not a log"),
        ([""], 2, "It is empty"),
        (["@notes", "@zip"], 2, "is not expected here"),
    ],
    "presets": [(["--family", "pokcet"], 3, "Did you mean 'pocket'?"), (["--family"], 2, "no value"), (["--family", ""], 2, "empty")],
    "config show": [(["rank"], 2, "'rank' is not expected here")],
    "config set": [
        ([], 2, "No setting was given"),
        (["rank"], 2, "Write rank=VALUE"),
        (["rnak=4"], 2, "Did you mean 'rank'?"),
        (["rank=0"], 2, "from 1 to 512"),
        (["rank=many"], 2, "whole number"),
        (["rank=4", "rank=8"], 2, "given twice"),
        (["rank=4", "--rank", "8"], 2, "as rank=4 and as --rank"),
        (["optimizer=adam"], 2, "one of: adamw"),
        (["--learning-rate", "-1"], 2, "learning_rate"),
        (["flip=maybe"], 2, "on or off"),
        (["resolution=100"], 2, "resolution"),
        (["--learning-rte", "1"], 2, "Did you mean '--learning-rate'?"),
        (["=4"], 2, "name=value"),
        (["seed=99999999999999999999"], 2, "seed"),
        (["epochs=1e9", "alpha=nan", "warmup=2"], 2, "3 problems"),
    ],
    "config reset": [
        (["--preset", "pocket-standrad"], 3, "Did you mean 'pocket-standard'?"),
        (["--preset", "sdxl-standard"], 2, "for sdxl models"),
        (["--preset"], 2, "no value"),
        (["--preset", ""], 2, "It is empty"),
        (["pocket-quick"], 2, "no such setting"),
        (["rnak"], 2, "Did you mean 'rank'?"),
        (["rank", "--preset", "pocket-quick"], 2, "both given"),
    ],
    "config import": [
        ([], 2, "FILE"), (["@missing"], 2, "cannot be read"), (["@folder"], 2, "cannot be read"), (["@notes"], 2, "no valid TOML"),
        (["@zip"], 2, "no valid TOML"), (["@sample"], 2, "no text file"), (["@junk"], 2, "no valid TOML"), ([""], 2, "empty"),
        (["@notes", "@notes"], 2, "not expected here"), (["@notes", "--yse"], 2, "Did you mean '--yes'?"),
    ],
    "config native": [
        (["-p", "empty"], 3, "no pictures"),
        (["--save", "@notes"], 2, "It is a file"),
        (["--save", ""], 2, "It is empty"),
    ],
    "gates": [
        (["datset"], 2, "Did you mean 'dataset'?"),
        (["all"], 2, "one of: dataset"),
        (["dataset", "5"], 2, "'5'"),
        (["dry_run", "-p", "empty"], 4, "not started"),
    ],
    "train": [
        (["--rank", "0"], 2, "from 1 to 512"),
        (["--epochs", "lots"], 2, "whole number"),
        (["--optimiser", "adamw"], 2, "Did you mean '--optimizer'?"),
        (["rank=4"], 2, "'rank=4' is not expected here"),
        (["--wait", "--detach"], 2, "opposite"),
        (["--rank", "0", "--alpha", "0", "--warmup", "3"], 2, "3 problems"),
        (["-p", "empty"], 4, "not started"),
        (["--precision", "fp8"], 2, "fp16"),
    ],
    "stop": [
        ([], 3, "Nothing is running"),
        (["nope"], 3, "no job called 'nope'"),
        (["@run"], 2, "is not running"),
        (["--timeout", "0"], 2, "too small"),
        (["--timeout", "soon"], 2, "whole number"),
        (["a", "b"], 2, "'b' is not expected here"),
        ([""], 2, "It is empty"),
    ],
    "resume": [
        ([], 3, "can be resumed"),
        (["nope"], 3, "no job called 'nope'"),
        (["@run"], 2, "cannot be resumed"),
        (["@dry"], 2, "cannot be resumed"),
        (["--wait", "--detach"], 2, "opposite"),
        (["-p", "empty"], 3, "can be resumed"),
    ],
    "log": [
        (["nope"], 3, "no job called 'nope'"),
        (["--lines", "0"], 2, "too small"),
        (["--lines", "all"], 2, "whole number"),
        (["-p", "empty"], 3, "no log yet"),
        (["run-20200101-000000-0000"], 3, "no job called"),
    ],
    "status": [(["nope"], 3, "no job called 'nope'"), ([""], 2, "empty"), (["a", "b"], 2, "'b' is not expected here")],
    "jobs": [(["--limit", "0"], 2, "too small"), (["--limit", "x"], 2, "whole number"), (["all"], 2, "'all' is not")],
    "measure": [
        (["--grid", "nope"], 3, "no grid called 'nope'"), (["--grid", ""], 2, "empty"), (["--over", "time"], 2, "Use one of"), (["--over", "wieght"], 2, "Did you mean 'weight'?"),
        (["--weight", "0.7"], 2, "goes with --over checkpoint"), (["--over", "checkpoint", "--weight", "0.33"], 3, "not on this grid"),
        (["--over", "checkpoint", "--weight", "much"], 2, "number"), (["--over", "checkpoint", "--weight", "99"], 2, "too large"),
        (["--over", "checkpoint", "--checkpoint", "final"], 2, "does not go with"), (["--checkpoint", "epoch 99"], 3, "no checkpoint 'epoch 99'"),
        (["--explain", "--again"], 2, "--explain does not go with"), (["extra"], 2, "not expected"), (["--expalin"], 2, "Did you mean '--explain'?"),
    ],
    "setup measuring": [
        (["vgg"], 2, "Use one of"), (["clop"], 2, "Did you mean 'clip'?"), (["clip"], 2, "The folder is missing"), (["clip", ""], 2, "empty"),
        (["clip", "@missing"], 2, "There is no folder"), (["clip", "@notes"], 2, "There is no folder"), (["clip", "models/clip"], 2, "not a full path"),
        (["dino", "clip-vit-b-32"], 2, "is no DINO model"), (["--forget"], 2, "needs a kind"), (["clip", "--forget"], 3, "No CLIP model is in use"),
        (["clip", "/x", "--forget"], 2, "takes no folder"), (["--download", "gpt"], 3, "no model called 'gpt'"), (["clip", "--download", "dinov2-small"], 2, "goes alone"),
        (["ccip", "@zip"], 2, "There is no folder"),
    ],
    "setup comfyui": [
        ([], 3, "No ComfyUI server is known"),
        ([""], 2, "It is empty"),
        (["http://8.8.8.8:8188"], 2, "not on this computer or in its network"),
        (["ftp://127.0.0.1"], 2, "begins with ftp://"),
        (["http://127.0.0.1:8188/prompt"], 2, "goes on after the port"),
        (["http://me:secret@127.0.0.1:8188"], 2, "user name or a password"),
        (["127.0.0.1:99999"], 2, "is not a port"),
        (["127.0.0.1", "--lora-folder", "@missing"], 2, "Nothing is there"),
        (["127.0.0.1", "--lora-folder", "@notes"], 2, "no folder at"),
        (["--forget"], 2, "goes with an address"),
        (["127.0.0.1", "--forget"], 3, "not one of your ComfyUI servers"),
        (["127.0.0.1", "--forget", "--model", "sd15=x"], 2, "goes with nothing else"),
        (["--lora-folder", "@folder"], 2, "goes with an address"),
    ],
    "grid bring-back": [
        ([], 2, "FOLDER is missing"),
        (["@missing"], 2, "Nothing is there"),
        ([""], 2, "It is empty"),
        (["@notes"], 3, "no folder at"),
        (["@folder", "--grid", "nope"], 3, "no grid called 'nope'"),
        (["@folder", "@notes"], 2, "is not expected here"),
        (["@folder", "--wait", "--detach"], 2, "opposite"),
    ],
    "grid retry": [
        (["nope"], 3, "not a cell without a picture"),
        (["--grid", "nope"], 3, "no grid called 'nope'"),
        (["--grid", ""], 2, "It is empty"),
        (["", "x"], 2, "It is empty"),
        (["--lsit"], 2, "Did you mean '--list'?"),
        (["--list=all"], 2, "takes no value"),
        (["--wait", "--detach"], 2, "opposite"),
    ],
    "evaluate": [
        (["--renderer", "comfy"], 2, "Did you mean 'comfyui'?"), (["--clip-skip", "5"], 2, "too large"),
        (["--renderer", "comfyui"], 2, "ComfyUI cannot draw"), (["--workflows", "@notes"], 2, "It is a file"),
        (["--grid", "latest", "--workflows", "x"], 2, "--grid does not go with --workflows"),
        (["--families", "leak"], 2, "not one of the choices"), (["--families", "standard,standard"], 2, "there twice"),
        (["--families", ""], 2, "empty"), (["--grid", "latest", "--plan"], 2, "--grid does not go with --plan"),
        (["--run", "nope"], 3, "no run called 'nope'"),
        (["--grid", "nope"], 3, "no grid called 'nope'"),
        (["--grid", "latest", "--weights", "1"], 2, "--grid does not go with --weights"),
        (["--run", "x", "--lora", "@lora"], 2, "--run and --lora"),
        (["--weights", "0.5;0.7"], 2, "not a number"),
        (["--weights", "0.5,,0.7"], 2, "One of them is empty"),
        (["--weights", "9"], 2, "too large"),
        (["--weights", "0.5,0.5"], 2, "there twice"),
        (["--seeds", "-1"], 2, "too small"),
        (["--checkpoints", "99"], 3, "no checkpoint '99'"),
        (["--lora", "@notes"], 2, "not a .safetensors file"),
        (["--lora", "@missing"], 2, "Nothing is there"),
        (["--lora", "@junk"], 2, "junk.safetensors"),
        (["--prompt", ""], 2, "It is empty"),
        (["--steps", "0"], 2, "too small"),
        (["--guidance", "nan"], 2, "not a finite number"),
        (["--wait", "--detach"], 2, "opposite"),
        (["-p", "empty"], 3, "has no run yet"),
    ],
    "register": [
        (["--weight", "0"], 2, "cannot be 0"),
        (["--weight", "0,7"], 2, "with a point"),
        (["--weight", "5"], 2, "too large"),
        (["--grid", "nope"], 3, "no grid called 'nope'"),
        (["--run", "nope"], 3, "no run called 'nope'"),
        (["--checkpoint", "99"], 3, "no checkpoint '99'"),
        (["--lora", "@lora"], 2, "--weight is missing"),
        (["--lora", "@notes", "--weight", "1"], 2, "not a .safetensors file"),
        (["--lora", "@lora", "--weight", "1", "--grid", "x"], 2, "does not go with --grid"),
        (["--on-clash", "overwrite"], 2, "one of: ask"),
        (["--name", ""], 2, "It is empty"),
        (["-p", "empty"], 3, "has no run yet"),
        (["--lora", "@junk", "--weight", "1"], 2, "junk.safetensors"),
    ],
    "library show": [([], 2, "LORA is missing"), (["nope"], 3, "no LoRA called 'nope'"), (["a", "b"], 2, "'b' is not")],
    "library weight": [
        ([], 2, "LORA is missing"), (["nope"], 3, "no LoRA called 'nope'"), (["nope", "0.6"], 3, "no LoRA called 'nope'"), (["nope", "strong"], 2, "not a number"),
        (["nope", "5"], 2, "too large"), (["nope", "-3"], 2, "too small"), (["nope", "nan"], 2, "not a finite"), (["nope", ""], 2, "WEIGHT cannot be"), ([""], 2, "empty"),
        (["nope", "0.6", "--undo"], 2, "does not go with"), (["nope", "0.6", "0.7"], 2, "'0.7' is not"), (["nope", "--undo=1"], 2, "takes no value"), (["nope", "--redo"], 2, "Did you mean '--undo'?"),
    ],
    "library remove": [([], 2, "LORA is missing"), (["nope"], 3, "no LoRA called 'nope'"), (["../ink"], 3, "no LoRA")],
    "library put-back": [([], 2, "TRASH is missing"), (["nope"], 3, "holds no LoRA"), (["../library"], 2, "outside")],
    "demo": [
        (["--preset", "pocket-standrad"], 3, "Did you mean 'pocket-standard'?"),
        (["--preset", "sdxl-quick"], 2, "built-in model"),
        (["fast"], 2, "'fast' is not expected here"),
    ],
    "app": [
        (["--port", "0"], 2, "too small"),
        (["--port", "99999"], 2, "too large"),
        (["--port", "http"], 2, "whole number"),
        (["--no-browser=1"], 2, "takes no value"),
    ],
}  # fmt: skip


def common(command: Command) -> list[tuple[list[str], int, str]]:
    """Wrong lines that every command can meet."""
    lines: list[tuple[list[str], int, str]] = list(WRONG_FILTERS) if command.name in NARROWED else []
    lines += [
        (["--jsno"], 2, "Did you mean '--json'?"),
        (["--no-such-thing"], 2, "no option --no-such-thing"),
        (["-x"], 2, "no option -x"),
        (["--json=yes"], 2, "--json takes no value"),
        (["--home"], 2, "--home has no value"),
        (["--home", ""], 2, "--home is empty"),
        (["--home", "@notes"], 2, "is a file, not a folder"),
        (["--home", "@notes/inside"], 2, "is a file, not a folder"),
        (["--home", "@folder", "--home", "@missing"], 2, "--home is given 2 times"),
    ]
    if not any(w.many for w in command.words):
        lines.append((["a", "b", "c", "d"], 2, "not expected here"))
    if command.project:
        lines += [
            (["-p"], 2, "--project has no value"),
            (["-p", "inc"], 3, "Did you mean 'ink'?"),
            (["-p", ""], 3, "no project called ''"),
            (["-p", "../ink"], 3, "no project called '../ink'"),
            (["-p", "ink", "-p", "empty"], 2, "--project is given 2 times"),
        ]
    else:
        lines.append((["-p", "ink"], 2, "no option -p"))
    return lines  # type: ignore[return-value]


# What each command needs so that only the common mistake is wrong with the line.
RIGHT: dict[str, list[str]] = {
    "grid bring-back": ["@folder"],
    "autocaption download": ["wd-vit-v3"],
    "edit": ["--name", "Boats", "--yes"],
    "new": ["Boats", "--kind", "style"], "import": ["@sample"], "set-aside": ["01_car.png"],
    "captions set": ["01_car.png", "x"], "captions replace": ["car", "auto"], "captions prepend": ["x"],
    "captions append": ["x"], "captions remove-tag": ["car"], "captions rename-tag": ["car", "auto"],
    "captions merge-tags": ["car", "bus"], "captions history": ["01_car.png"], "captions restore": ["01_car.png", "1"],
    "export-dataset": ["@missing"], "models add": ["@lora"], "models forget": ["x"], "models download": ["x"], "models remove": ["x"], "models inspect": ["@lora"], "config set": ["rank=4"], "config import": ["@notes"], "library show": ["x"],
    "library remove": ["x"], "library weight": ["x"], "library put-back": ["x"], "queue move": ["q-1", "1"], "queue remove": ["q-1"], "delete": ["empty"],
    "explain": ["train.log"], "library copy": ["x", "@folder"], "library take-back": ["x", "@folder"], "library add": ["@lora", "--kind", "style"], "library compare": ["x", "y"], "library evaluate": ["x"], "library publish": ["x", "ann/blue"], "lora metadata": ["@lora"], "report": ["x.html"], "blind": ["a", "b"], "lora info": ["@lora"], "lora check": ["@lora"], "lora resize": ["@lora", "--rank", "1"], "lora merge": ["@lora", "@lora"],
    "lora convert": ["@lora", "--type", "fp16"],
}  # fmt: skip
CASES = [
    pytest.param(c, line, code, words, id=f"{c.name}-{n}")
    for c in COMMANDS
    for n, (line, code, words) in enumerate(
        OWN.get(c.name, []) + [(RIGHT.get(c.name, []) + line, code, words) for line, code, words in common(c)]
    )
]


@pytest.fixture(scope="module")
def shared(_trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A workspace that no wrong input may change, and the files that the lines name with an @."""
    home = tmp_path_factory.mktemp("wrong") / "home"
    shutil.copytree(_trained, home)
    outside = tmp_path_factory.mktemp("outside")
    (outside / "notes.md").write_text("no picture")
    (outside / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    (outside / "junk.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    (outside / "folder").mkdir()
    (outside / "sample.png").write_bytes((home / "projects/ink/dataset/01_car.png").read_bytes())
    assert main(["new", "Empty", "--kind", "object", "--trigger", "emptyxq", "--home", str(home)]) == 0
    assert main(["new", "Broken", "--kind", "object", "--trigger", "brokenxq", "--home", str(home)]) == 0
    (home / "projects/broken/project.yaml").write_text("kind: [")
    assert main(["open", "ink", "--home", str(home)]) == 0
    run = next((home / "projects/ink/runs").iterdir())
    return {
        "home": str(home),
        "notes/inside": str(outside / "notes.md" / "inside"),
        "notes": str(outside / "notes.md"),
        "missing": str(outside / "missing"),
        "missing2": str(outside / "elsewhere" / "missing"),
        "typo": str(outside / "note.md"),
        "zip": str(outside / "broken.zip"),
        "junk": str(outside / "junk.safetensors"),
        "folder": str(outside / "folder"),
        "sample": str(outside / "sample.png"),
        "lora": str(next((run / "checkpoints").glob("*-000001.safetensors"))),
        "run": run.name,
        "dry": next((home / "projects/ink/jobs").glob("dry-run-*")).name,
    }


def stamp(home: str) -> dict[str, tuple[int, int]]:
    """Every file that decides anything, with size and time. Locks, logs, the history of what was tried, the verdicts of
    gates and what can be made again do not count."""
    return {
        str(p.relative_to(home)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in Path(home).rglob("*")
        if p.is_file() and not ({"cache", "logs", "gates", "records"} & set(p.parts)) and "lock" not in p.name
    }


def _start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong line that gets as far as starting something fails at once."""

    def refused(*_: object) -> None:
        raise AssertionError("a wrong line started something")

    for place in (
        "studio.training.diffusers.DiffusersBackend.command",
        "studio.evaluation.diffusers.DiffusersRenderer.command",
        "studio.cli.commands.app.subprocess.Popen",
        "studio.cli.demo.Demo.run",
    ):
        monkeypatch.setattr(place, refused)
    monkeypatch.setattr(
        "studio.environment.probe", lambda _modules: {"failed": {}, "torch": "2.13.0", "cuda": False}
    )


def all_findings(document: dict[str, Any]) -> list[dict[str, str]]:
    return [f for f in document["findings"] if f.get("severity") != "info"]


@pytest.mark.parametrize(("command", "line", "code", "words"), CASES)
def test_wrong_input(
    shared: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    line: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.setenv("STUDIO_HOME", shared["home"])
    _start_nothing(monkeypatch)
    before = stamp(shared["home"])
    typed = [shared[w[1:]] if w.startswith("@") else w for w in line]
    capsys.readouterr()
    got = main([*command.name.split(), *typed, "--json"])
    printed = capsys.readouterr()
    log = Path(shared["home"]) / "logs" / "cli.log"
    if log.exists():
        told = log.read_text()
        log.unlink()
        pytest.fail(told)
    assert got == code, printed.out
    assert printed.err == ""
    document = json.loads(printed.out)
    assert document["exit_code"] == code and document["ok"] is False
    said = json.dumps(document, ensure_ascii=False)
    assert words in said, said
    assert document["what"] and document["why"] and document["fix"], (
        "what, why and fix belong to every answer"
    )
    for finding in all_findings(document):
        assert finding["what"] and finding["why"] and finding["fix"], finding
    assert "Traceback" not in printed.out
    assert stamp(shared["home"]) == before, "a wrong input must change nothing"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_a_misspelt_command_is_named(cli: Any, command: Command) -> None:
    first, *rest = command.name.split()
    answer = cli(f"{first}x", *rest)
    assert answer.code == 2 and f"Did you mean '{first}'?" in answer.err
    if rest:
        answer = cli(first, f"{rest[0]}x")
        assert answer.code == 2 and f"Did you mean '{rest[0]}'?" in answer.err


# Commands that never read what project.yaml says.
NO_INTENT = {
    "restore", "discard", "captions add-trigger", "captions approve", "captions undo", "captions redo", "config show", "config set", "jobs",
    "autocaption set", "autocaption status", "autocaption models", "lineage",
}  # fmt: skip


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.project and c.name not in NO_INTENT], ids=lambda c: c.name
)
def test_a_damaged_project_is_told(
    shared: dict[str, str], capsys: Any, monkeypatch: Any, command: Command
) -> None:
    monkeypatch.setenv("STUDIO_HOME", shared["home"])
    _start_nothing(monkeypatch)
    typed = [shared[w[1:]] if w.startswith("@") else w for w in RIGHT.get(command.name, [])]
    capsys.readouterr()
    code = main([*command.name.split(), *typed, "-p", "broken", "--json"])
    printed = capsys.readouterr().out
    assert code in (2, 3), printed
    assert "Traceback" not in printed


def test_ten_for_each_command() -> None:
    for command in COMMANDS:
        assert len(OWN.get(command.name, [])) + len(common(command)) >= 10, command.name
    assert set(OWN) <= {c.name for c in COMMANDS}
