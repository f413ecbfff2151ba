"""What the other ranks of a training on several devices run."""

from unetpipe.ranks import follow
from unetpipe.train import train

follow(train)
