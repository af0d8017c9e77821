"""Record the branch traces of the study: real programs of a Debian machine on a text of Python's documentation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mdfa_core.studies.branch_prediction import BranchTrace, read_trace, record, write_trace

TEXT = str(Path(os.__file__).parent / "pydoc_data" / "topics.py")  # 700 kB of English, in every installation
SKIP = 200_000  # branches of the dynamic linker and of the start
LIMIT = 1_000_000

PYTHON = """
import json, re
text = open({text!r}).read()
lines = [dict(line=n, words=line.split()) for n, line in enumerate(text.splitlines())]
json.loads(json.dumps(lines))
print(sum(len(m[0]) for m in re.finditer(r"([a-z]+)[ ,.]+([A-Z][a-z]*)", text)))
"""
SQL = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT);
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000)
  INSERT INTO t SELECT x, x * 7919 % 10007, hex(x * 31337 % 65521) FROM c;
CREATE INDEX i ON t (a);
SELECT count(*), sum(u.a) FROM t JOIN t u ON u.a = t.id WHERE t.b LIKE '%A%';
SELECT b, count(*) FROM t GROUP BY substr(b, 1, 2) ORDER BY 2 DESC, 1 LIMIT 9;
"""
C = """
#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void sort(double *a, int n) {
  for (int i = 1; i < n; i++)
    for (int j = i; j > 0 && a[j - 1] > a[j]; j--) { double t = a[j]; a[j] = a[j - 1]; a[j - 1] = t; }
}
static int words(const char *s) {
  int n = 0, in = 0;
  for (; *s; s++) { if (isspace((unsigned char)*s)) in = 0; else if (!in) { in = 1; n++; } }
  return n;
}
int main(int argc, char **argv) {
  double a[64];
  for (int i = 0; i < 64; i++) a[i] = sin(i * 12.9898) * 43758.5453;
  sort(a, 64);
  for (int i = 0; i < argc; i++) switch (words(argv[i]) % 5) {
    case 0: puts("none"); break;
    case 1: printf("%f\\n", a[i & 63]); break;
    case 2: return (int)strtol(argv[i], NULL, 10);
    default: fputs(argv[i], stderr);
  }
  return 0;
}
"""
PERL = r"""
while (<>) { $n++ if /\b([a-z]+)\s+\1\b/; $m += () = /(?:[A-Z]\w+|\d+)\s*\(/g; s/(\w+)-(\w+)/$2 $1/g }
print "$n $m\n"
"""
AWK = "{ for (i = 1; i <= NF; i++) n[tolower($i)]++ } END { for (w in n) if (n[w] > 9) print w, n[w] }"


def compiler() -> str:
    """The compiler proper, which `gcc` starts."""
    gcc = shutil.which("gcc")
    return (
        subprocess.run([gcc, "-print-prog-name=cc1"], capture_output=True, text=True).stdout.strip() if gcc else "cc1"
    )


def programs(folder: Path) -> dict[str, list[str]]:
    (folder / "input.py").write_text(PYTHON.format(text=TEXT))
    (folder / "input.sql").write_text(SQL)
    (folder / "input.c").write_text(C)
    return {
        "gzip": ["gzip", "-c", TEXT],
        "xz": ["xz", "-c", TEXT],
        "zstd": ["zstd", "-q", "-c", "-9", "--single-thread", TEXT],
        "sort": ["sort", "--parallel=1", "-k2", TEXT],
        "python": [os.path.realpath(sys.executable), "-S", str(folder / "input.py")],
        "perl": ["perl", "-e", PERL, TEXT],
        "sqlite": ["sqlite3", ":memory:", f".read {folder / 'input.sql'}"],
        "cc1": [compiler(), "-quiet", "-O2", str(folder / "input.c"), "-o", "/dev/null"],
    }


def tuning_programs() -> dict[str, list[str]]:
    """Programs for choosing hyperparameters; the study does not score them."""
    return {
        "bzip2": ["bzip2", "-c", TEXT],
        "awk": ["mawk", AWK, TEXT],
        "sed": ["sed", "-E", r"s/([a-z]+)ing\b/\1ed/g; /^ *[0-9]+\./d; s/(the|a) ([a-z]+)/\2 \1/g", TEXT],
    }


def recorded(folder: Path) -> dict[str, BranchTrace]:
    """All traces; records the missing ones."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"PYTHONHASHSEED": "0", "LC_ALL": "C"}
    traces = {}
    for name, command in (programs(folder) | tuning_programs()).items():
        path = folder / f"{name}.npz"
        if not path.exists():
            write_trace(record(command, limit=LIMIT, skip=SKIP, stdout=subprocess.DEVNULL), path)
        traces[name] = read_trace(path)
        print(
            name, len(traces[name]), traces[name].branches, traces[name].instructions, path.stat().st_size, flush=True
        )
    return traces


if __name__ == "__main__":
    recorded(Path(sys.argv[1] if len(sys.argv) > 1 else "out/branches"))
