"""The benchmark: this gateway beside Orthanc's built-in SCP and DCMTK's servers.

Run it with ``python -m bench`` from the top of the repository; ``--help`` lists the options, README.md says
what the figures mean. It needs Debian's ``orthanc``, ``orthanc-python`` and ``dcmtk``.
"""
