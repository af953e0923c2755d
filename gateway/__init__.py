"""The ground floor that all rooms stand on, and the roof towards a person (cli, supervisor)."""

from typing import Final

VERSION: Final = "0.1.0"

# PS3.7 D.3.3.2: identifies this implementation in A-ASSOCIATE and in the file meta information.
# Under 2.25 (PS3.5 B.2), so no registration authority is needed.
IMPLEMENTATION_CLASS_UID: Final = "2.25.212964586110286474094018937613279487921"
IMPLEMENTATION_VERSION_NAME: Final = "DICOMGATEWAY_01"
