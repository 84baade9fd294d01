def single(r): raise NotImplementedError
def graph(r): raise NotImplementedError
