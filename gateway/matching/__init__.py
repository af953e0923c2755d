"""Attribute matching of PS3.4 C.2.2.2: query keys, and whether attributes match them. Text is Unicode here."""
