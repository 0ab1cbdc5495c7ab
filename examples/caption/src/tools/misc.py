"""Settings as the scripts want them: attributes and a mapping at once."""
import json
from pathlib import Path


class Options(dict):
    "A dictionary whose keys are attributes, at every depth."
    def __init__(self, *args, **kw):
        super().__init__({k: Options(v) if isinstance(v, dict) else v for k, v in dict(*args, **kw).items()})
    def __getattr__(self, k):
        if k not in self: raise AttributeError(f'the settings have no "{k}"')
        return self[k]


def read_config(file, # JSON
                **more): # settings that win over the file's
    return Options(json.loads(Path(file).read_text(encoding='utf-8')) | more)
