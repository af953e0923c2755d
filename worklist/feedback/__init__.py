"""Status back to the RIS: what changes of items, in HL7 messages over MLLP, from a queue that nothing is lost from."""
