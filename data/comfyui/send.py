"""Send all workflows of the folder api beside this file to a running ComfyUI: python send.py http://127.0.0.1:8188

Needs nothing but Python. The pictures appear in ComfyUI's output folder.
"""

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main() -> int:
    address = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8188").rstrip("/")
    bad = 0
    for path in sorted((Path(__file__).resolve().parent / "api").glob("*.json")):
        body = json.dumps({"prompt": json.loads(path.read_text(encoding="utf-8"))}).encode()
        request = urllib.request.Request(
            f"{address}/prompt", data=body, headers={"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                errors = json.load(answer).get("node_errors")
        except urllib.error.HTTPError as e:
            errors = e.read().decode("utf-8", "replace")
        except OSError as e:
            print(f"ComfyUI at {address} does not answer: {e}")
            return 1
        print(f"{path.name}: {'refused: ' + str(errors) if errors else 'queued'}")
        bad += bool(errors)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
