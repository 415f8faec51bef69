"""Write summary.txt: what the fit named on the command line found, in a sentence."""

import json
import sys
from pathlib import Path

line = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))

distance = abs(line["slope"] - 2) / line["slope_error"]
text = f"The slope is {line['slope']:.3f}, {distance:.1f} standard errors from the true value 2.\n"
Path("summary.txt").write_text(text, encoding="utf-8")
print(text, end="")
