// Brings what unetpipe found into QuPath, and your corrections back. Automate > Script editor, with an image open.
// 1. Run it: the regions (class Region*) and objects of `unetpipe suggest` become annotations.
// 2. Within the regions delete what is wrong, draw what is missing, mend outlines.
// 3. Set importing to false and run it again: the file is now truth for the column labels of the sheet.

def folder = "/path/to/my/suggested"
def importing = true

def name = GeneralTools.getNameWithoutExtension(getCurrentServer().getMetadata().getName())  // or the sample's, if other
def path = buildFilePath(folder, name + ".geojson")
if (importing) {
    importObjectsFromFile(path)
} else {
    exportObjectsToGeoJson(getAnnotationObjects(), path, "FEATURE_COLLECTION")
}
print(path)
