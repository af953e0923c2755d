"""Archives: who answers queries and yields instances. Orthanc is one; which is asked depends on the called AE title."""
