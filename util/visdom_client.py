"""placeholder"""

from util.display import Sink


class VisdomDisplay(Sink):
    def __init__(self, o, folder):
        pass
