from deidcli.api import Anonymizer as Anonymizer
from deidcli.api import MethodInfo as MethodInfo
from deidcli.api import Report as Report
from deidcli.api import anonymize as anonymize
from deidcli.api import anonymize_image as anonymize_image
from deidcli.api import detect as detect
from deidcli.api import methods as methods
from deidcli.errors import DeidError as DeidError

__version__: str
__all__: list[str]
