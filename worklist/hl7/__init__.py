"""HL7 v2 in: messages over MLLP, decoded, kept, handed to who acts on them, and acknowledged."""
