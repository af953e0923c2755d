"""DICOMweb servers as this gateway's peers (PS3.18): one HTTP client for queries, retrieval and storage."""
