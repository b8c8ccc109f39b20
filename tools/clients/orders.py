"""What a client script is to do, and how it tells what came of it."""

import json
import os

URL = os.environ["HERDGATE_URL"]
KEY = os.environ["HERDGATE_KEY"]
MODEL = os.environ["MODEL"]
EMBEDDER = os.environ["EMBEDDER"]
MESSAGES = [{"role": "user", "content": os.environ["QUESTION"]}]
# Of the right form, with a right check sum, and nobody's.
WRONG_KEY = os.environ["WRONG_KEY"]
UNKNOWN_MODEL = MODEL + "x"


def failure(call, kind):
    """The status and the text of the error that `call` must end with."""
    try:
        call()
    except kind as error:
        return {"status": error.status_code, "text": str(error)}
    return None


def tell(**told):
    print(json.dumps(told))
