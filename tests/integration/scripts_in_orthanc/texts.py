"""What `rest` imports from beside itself."""


def LOUD(text):
    return text.upper()
