"""Where code runs that nobody has read: the child side of `run.py`. Imports nothing but the standard library.

    worker       has namespaces of its own: a root that shows Python alone, no network, no way back
      supervisor   one for each answer: a process namespace and an empty /tmp
        checker      runs the tests, and decides; sees the answer's values, never its objects
          keeper       first process of a namespace that only the answer is in, and dies with it
            answer       runs the code; has never seen the tests

The answer is forked before the checker is sent anything, so its memory holds no test, no secret and no verdict. What it
can say is what its functions return, and the checker compares that, in a process that the answer can neither see nor
reach: there is no signal for "passed" that could be forged.
"""
