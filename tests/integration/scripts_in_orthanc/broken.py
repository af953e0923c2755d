"""Cannot be loaded."""

import orthanc

orthanc.LogWarning("this far")
raise KeyError("a mistake")
