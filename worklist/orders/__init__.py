"""What HL7 messages mean for the worklist: orders to items, changes of patients, reports."""
